//! What the parent keeps of what workers say, so that one's death costs no more than it must.

use std::collections::BTreeMap;

use stillframe_model::{Coverage, CoverageKind, Reason, Status};

use super::accept;
use super::death::Death;
use super::message::{Message, StepTold};
use crate::journal::Findings;

/// Volumes of one machine that are kept apart; a crafted partition table has thousands.
const MAX_VOLUMES: usize = 4096;
/// Facts of one machine: every package of the largest distributions, each in a file of its own. And their bytes, as
/// they were sent: they must fit into the order of the next worker.
const MAX_FACTS: usize = 500_000;
const MAX_FACT_BYTES: u64 = 96 << 20;
/// A volume is looked at once among all, once for its table of mounts, and once for each of two systems that mount it.
const MAX_MOUNT_STEPS: u32 = 4;

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
    taken: BTreeMap<StepTold, u32>,
    /// Whether this worker has said what there is.
    has_met: bool,
    /// Whether it has said which images it met in files.
    has_images: bool,
    fact_bytes: u64,
    pub(super) deaths: u64,
    /// Whether facts were dropped since there were too many.
    pub(super) is_cut: bool,
}

impl Kept {
    /// Another worker begins. What was met stays until it says what there is: it may not come so far.
    pub(super) fn begin(&mut self) {
        self.step = None;
        self.taken.clear();
        self.has_met = false;
        self.has_images = false;
    }

    /// What the worker is at.
    pub(super) const fn step(&self) -> Option<&StepTold> {
        self.step.as_ref()
    }

    /// What the worker is at, for who watches: `reading disk0/p1 (ext4)`.
    pub(super) fn stage(&self) -> String {
        let Some(step) = &self.step else { return "starting the reader".to_owned() };
        let format = match step {
            StepTold::Read(volume) => self.met.get(volume).and_then(|row| row.facts.format.as_ref()),
            _ => None,
        };
        format.map_or_else(|| step.to_string(), |format| format!("{step} ({format})"))
    }

    /// Takes what a worker tells of its work in a message of `len` bytes; `disks` are the numbers of those that it was
    /// given. Other messages are not for here.
    pub(super) fn take(&mut self, message: Message, len: u64, disks: &[u32]) -> Result<(), Death> {
        match message {
            Message::Step(step) => self.take_step(step, disks)?,
            Message::Met { volumes, coverage } => {
                if volumes.len() > MAX_VOLUMES || coverage.len() > accept::MAX_ROWS {
                    return Err(Death::Flood);
                }
                if std::mem::replace(&mut self.has_met, true) {
                    return Err(Death::Forgery("it did the same thing twice"));
                }
                self.met.clear();
                for row in volumes.into_iter().filter(|row| !self.before.is_ended(row.name.as_str())) {
                    let row = accept::row(row, disks)?;
                    self.met.insert(row.name.as_str().to_owned(), row);
                }
                self.looked =
                    coverage.into_iter().map(|row| accept::row(row, disks)).collect::<Result<_, _>>()?;
            }
            Message::Images(rows) => self.take_images(rows, disks)?,
            Message::Mounted(mounts) => {
                if mounts.keys().any(|name| !self.met.contains_key(name)) {
                    return Err(Death::Forgery("it named a volume that it had not met"));
                }
                self.before.mounts.get_or_insert(mounts);
            }
            Message::Opened(row) => {
                let row = self.of_step(row, disks)?;
                self.met.insert(row.name.as_str().to_owned(), row);
            }
            Message::Facts(facts) => {
                let is_at = |name: &str| matches!(&self.step, Some(StepTold::Read(volume)) if volume == name);
                if !facts.iter().all(|fact| is_at(fact.location.volume.as_str())) {
                    return Err(Death::Forgery("it spoke of a volume that it was not reading"));
                }
                self.fact_bytes = self.fact_bytes.saturating_add(len);
                let room = if self.fact_bytes > MAX_FACT_BYTES { 0 } else { MAX_FACTS };
                let room = room.saturating_sub(self.before.facts.len());
                self.is_cut |= facts.len() > room;
                self.before.facts.extend(facts.into_iter().take(room));
            }
            Message::Read { row, entries } => {
                let row = self.of_step(row, disks)?;
                self.met.remove(row.name.as_str());
                self.before.coverage.push(row);
                self.before.entries = self.before.entries.saturating_add(entries);
            }
            _ => {}
        }
        Ok(())
    }

    /// Images in files of volumes. Each has the name of the volume that it lies on, and a number.
    fn take_images(&mut self, rows: Vec<Coverage>, disks: &[u32]) -> Result<(), Death> {
        if std::mem::replace(&mut self.has_images, true) {
            return Err(Death::Forgery("it did the same thing twice"));
        }
        if rows.len().saturating_add(self.met.len()) > MAX_VOLUMES {
            return Err(Death::Flood);
        }
        for row in rows {
            let row = accept::row(row, disks)?;
            let name = row.name.as_str();
            let beneath = name
                .rsplit_once("/image")
                .filter(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
            let is_known = |beneath: &str| self.met.contains_key(beneath) || self.before.is_ended(beneath);
            if row.kind != CoverageKind::Filesystem || !beneath.is_some_and(|(beneath, _)| is_known(beneath))
            {
                return Err(Death::Forgery("it named a volume that it had not met"));
            }
            if !self.before.is_ended(name) {
                self.met.insert(name.to_owned(), row);
            }
        }
        Ok(())
    }

    fn take_step(&mut self, step: StepTold, disks: &[u32]) -> Result<(), Death> {
        // What is dead or was read is not among those that were met.
        let is_known = match &step {
            StepTold::Look(disk) => {
                accept::is_of_disks(disk, disks) && !self.before.dead_disks.contains(disk)
            }
            // One that was read is opened again for what lies on it.
            StepTold::Open(volume) => self.met.contains_key(volume) || self.was_read(volume),
            StepTold::Mount(volume) | StepTold::Read(volume) => self.met.contains_key(volume),
            StepTold::Conclude => true,
        };
        if !is_known {
            return Err(Death::Forgery("it named a volume that it had not met"));
        }
        // Each step has a deadline of its own: a loop over steps would never meet one.
        let most = if matches!(step, StepTold::Mount(_)) { MAX_MOUNT_STEPS } else { 1 };
        let count = self.taken.entry(step.clone()).or_default();
        *count = count.saturating_add(1);
        if *count > most {
            return Err(Death::Forgery("it did the same thing twice"));
        }
        self.step = Some(step);
        Ok(())
    }

    fn was_read(&self, volume: &str) -> bool {
        let is_dead = self.before.dead_volumes.iter().any(|dead| dead == volume);
        !is_dead && self.before.is_ended(volume)
    }

    /// A row of the volume that the worker opens or reads just now.
    fn of_step(&self, row: Coverage, disks: &[u32]) -> Result<Coverage, Death> {
        let row = accept::row(row, disks)?;
        let name = row.name.as_str();
        let is_at =
            matches!(&self.step, Some(StepTold::Open(volume) | StepTold::Read(volume)) if volume == name);
        match row.kind == CoverageKind::Filesystem && is_at && self.met.contains_key(name) {
            true => Ok(row),
            false => Err(Death::Forgery("it spoke of a volume that it was not reading")),
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
        let reason = Reason::because("its reader ended", death.words());
        // It may have been read to its end, and what came next was not told yet.
        if let Some(row) = self.before.coverage.iter_mut().find(|row| row.name.as_str() == volume) {
            row.status = status;
            row.reason = Some(reason);
            self.before.dead_volumes.push(volume);
            return;
        }
        let mut row =
            self.met.remove(&volume).unwrap_or_else(|| Coverage::scanned(CoverageKind::Filesystem, &*volume));
        row.status = status;
        row.reason = Some(reason);
        self.dead.push(row);
        self.before.dead_volumes.push(volume);
    }

    /// Volumes that were met and that nobody read, since the last worker ended of this.
    pub(super) fn unread(&mut self, death: Death) -> Vec<Coverage> {
        let reason = Reason::because("it was not read", death.words());
        let unread = |mut row: Coverage| {
            row.status = Status::Failed;
            row.reason = Some(reason.clone());
            row
        };
        std::mem::take(&mut self.met).into_values().map(unread).collect()
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
