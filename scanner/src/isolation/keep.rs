//! What the parent keeps of what workers say, so that one's death costs no more than it must.

use std::collections::{BTreeMap, BTreeSet};

use stillframe_model::{Coverage, CoverageKind, Reason, Status};

use super::accept;
use super::death::Death;
use super::message::{Message, StepTold};
use crate::journal::Findings;

/// Volumes of one machine that are kept apart; a crafted partition table has thousands.
const MAX_VOLUMES: usize = 4096;
/// Facts of one machine: every package of the largest distributions, each in a file of its own.
const MAX_FACTS: usize = 500_000;

/// What workers said so far.
#[derive(Default)]
pub(super) struct Kept {
    /// What the next one is given.
    pub(super) before: Findings,
    /// Rows of disks and volumes on which workers died.
    pub(super) dead: Vec<Coverage>,
    /// Rows of disks, partitions and what lies between them, of the last worker that looked.
    pub(super) looked: Vec<Coverage>,
    /// Rows of volumes that were met and not read yet.
    met: BTreeMap<String, Coverage>,
    /// What the worker is at, and what it was at before.
    step: Option<StepTold>,
    taken: BTreeSet<StepTold>,
    pub(super) deaths: u64,
    /// Whether facts were dropped since there were too many.
    pub(super) is_cut: bool,
}

impl Kept {
    /// Another worker begins.
    pub(super) fn begin(&mut self) {
        self.step = None;
        self.taken.clear();
        self.met.clear();
    }

    /// What the worker is at.
    pub(super) const fn step(&self) -> Option<&StepTold> {
        self.step.as_ref()
    }

    /// Takes what a worker tells of its work; `disks` is how many it was given. Other messages are not for here.
    pub(super) fn take(&mut self, message: Message, disks: &[u32]) -> Result<(), Death> {
        match message {
            Message::Step(step) => self.take_step(step, disks)?,
            Message::Met { volumes, coverage } => {
                if volumes.len() > MAX_VOLUMES || coverage.len() > accept::MAX_ROWS {
                    return Err(Death::Flood);
                }
                for row in volumes.into_iter().filter(|row| !self.before.is_ended(row.name.as_str())) {
                    let row = accept::row(row, disks)?;
                    self.met.insert(row.name.as_str().to_owned(), row);
                }
                self.looked =
                    coverage.into_iter().map(|row| accept::row(row, disks)).collect::<Result<_, _>>()?;
            }
            Message::Mounted(mounts) => {
                if mounts.keys().any(|name| !self.met.contains_key(name)) {
                    return Err(Death::Forgery("it named a volume that it had not met"));
                }
                self.before.mounts.get_or_insert(mounts);
            }
            Message::Opened(row) => {
                let row = self.of_met(row, disks)?;
                self.met.insert(row.name.as_str().to_owned(), row);
            }
            Message::Facts(facts) => {
                if facts.iter().any(|fact| !self.met.contains_key(fact.location.volume.as_str())) {
                    return Err(Death::Forgery("it named a volume that it had not met"));
                }
                let room = MAX_FACTS.saturating_sub(self.before.facts.len());
                self.is_cut |= facts.len() > room;
                self.before.facts.extend(facts.into_iter().take(room));
            }
            Message::Read { row, entries } => {
                let row = self.of_met(row, disks)?;
                self.met.remove(row.name.as_str());
                self.before.coverage.push(row);
                self.before.entries = self.before.entries.saturating_add(entries);
            }
            _ => {}
        }
        Ok(())
    }

    fn take_step(&mut self, step: StepTold, disks: &[u32]) -> Result<(), Death> {
        // What is dead or was read is not among those that were met.
        let is_known = match &step {
            StepTold::Look(disk) => {
                accept::is_of_disks(disk, disks) && !self.before.dead_disks.contains(disk)
            }
            StepTold::Open(volume) | StepTold::Mount(volume) | StepTold::Read(volume) => {
                self.met.contains_key(volume)
            }
            StepTold::Conclude => true,
        };
        if !is_known {
            return Err(Death::Forgery("it named a volume that it had not met"));
        }
        // Mounting comes back to the root for its table; everything else is done once, or a loop would never meet a deadline.
        let is_mount = matches!(step, StepTold::Mount(_));
        if !self.taken.insert(step.clone()) && !is_mount {
            return Err(Death::Forgery("it did the same thing twice"));
        }
        if self.step.as_ref() != Some(&step) {
            self.step = Some(step);
        }
        Ok(())
    }

    fn of_met(&self, row: Coverage, disks: &[u32]) -> Result<Coverage, Death> {
        let row = accept::row(row, disks)?;
        match row.kind == CoverageKind::Filesystem && self.met.contains_key(row.name.as_str()) {
            true => Ok(row),
            false => Err(Death::Forgery("it named a volume that it had not met")),
        }
    }

    /// Whether all volumes that were met were read.
    pub(super) fn has_read_all(&self) -> bool {
        self.met.is_empty()
    }

    /// Books a death on what the worker was at. `false` where nothing is left to leave out, so that another would die the
    /// same.
    pub(super) fn died(&mut self, death: Death) -> bool {
        self.deaths = self.deaths.saturating_add(1);
        match self.step.take() {
            None | Some(StepTold::Conclude) => false,
            Some(StepTold::Look(disk)) => {
                let reason = Reason::because("what looked at its partitions ended", death.words());
                self.dead.push(Coverage::unread(CoverageKind::Disk, &*disk, Status::Failed, reason));
                self.before.dead_disks.push(disk);
                true
            }
            Some(StepTold::Open(volume) | StepTold::Mount(volume)) => {
                self.bury(volume, death, Status::Failed);
                true
            }
            Some(StepTold::Read(volume)) => {
                self.bury(volume, death, Status::Partial);
                true
            }
        }
    }

    fn bury(&mut self, volume: String, death: Death, status: Status) {
        let mut row =
            self.met.remove(&volume).unwrap_or_else(|| Coverage::scanned(CoverageKind::Filesystem, &*volume));
        row.status = status;
        row.reason = Some(Reason::because("its reader ended", death.words()));
        self.dead.push(row);
        self.before.dead_volumes.push(volume);
    }

    /// Gives up on what was not read: too many have died.
    pub(super) fn give_up(&mut self) {
        for (volume, mut row) in std::mem::take(&mut self.met) {
            row.status = Status::Failed;
            row.reason = Some(Reason::words("too many readers ended on this machine's other volumes"));
            self.dead.push(row);
            self.before.dead_volumes.push(volume);
        }
    }
}
