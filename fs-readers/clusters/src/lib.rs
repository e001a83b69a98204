//! The clusters of one file of a FAT or exFAT filesystem: found in the file allocation table as far as they are asked for,
//! and remembered in bounded memory.

use stillframe_bytes::Fault;
use stillframe_fs::FsError;

/// A file allocation table.
pub trait Table {
    /// How many clusters the filesystem has; their numbers begin at 2.
    fn clusters(&self) -> u32;

    /// The cluster that follows; `None` at the end of a chain.
    ///
    /// # Errors
    /// Where the table cannot be read.
    fn next(&self, cluster: u32) -> Result<Option<u32>, FsError>;

    /// Checks a cluster of the chain that begins at `first`.
    ///
    /// # Errors
    /// Where there is no such cluster.
    fn check(&self, first: u32, cluster: u32) -> Result<(), Fault>;

    /// Where the entry of a cluster lies, in bytes.
    fn entry_at(&self, cluster: u32) -> u64;
}

/// Clusters whose chain is looked at when a file is opened, so that most damage is known before anything is read.
const CHECKED_AT_OPEN: u32 = 1024;
/// Runs that are remembered of one file; an even number. Of a file that has more, every second, fourth … is.
const KEPT_RUNS: usize = 32_768;
/// To know that the first so many clusters hold none twice, Brent's algorithm looks at up to three times as many.
const LOOK_AHEAD: u32 = 3;

/// A part of a file whose clusters follow each other on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many clusters of the file come before.
    pub index: u32,
    /// The first cluster.
    pub cluster: u32,
    /// How many.
    pub clusters: u32,
}

impl Run {
    /// The index behind it.
    fn end(&self) -> u32 {
        self.index.saturating_add(self.clusters)
    }

    /// Where the run goes on with `cluster`, it grows by it; else it becomes the one that begins there, and what it was
    /// is given back.
    fn push(&mut self, cluster: u32) -> Option<Self> {
        if self.cluster.checked_add(self.clusters) == Some(cluster) {
            self.clusters = self.clusters.saturating_add(1);
            return None;
        }
        let next = Self { index: self.end(), cluster, clusters: 1 };
        Some(std::mem::replace(self, next))
    }

    fn last_cluster(&self) -> u32 {
        self.cluster.saturating_add(self.clusters).saturating_sub(1)
    }
}

/// The clusters of a file.
pub struct Chain {
    first: u32,
    /// How many the file has. What the chain holds behind them is allocated ahead and no content.
    needed: u32,
    /// How many were walked; all of them were checked.
    walked: u32,
    /// The one walked last.
    cluster: u32,
    /// A cluster that is met again is on a cycle. It is one walked at a power of two.
    landmark: u32,
    next_landmark: u32,
    /// The walk is over: with the end of the chain, or with what is wrong with it.
    end: Option<Result<(), Fault>>,
    /// The run walked last, which may go on.
    tail: Run,
    /// Every `keep_every`th of the `whole_runs` before it.
    kept: Vec<Run>,
    whole_runs: usize,
    keep_every: usize,
    /// The run asked for last, as far as it was.
    cursor: Run,
}

impl Chain {
    /// The `needed` clusters from `first`, one after the other, of which the FAT says nothing.
    #[must_use]
    pub fn contiguous(first: u32, needed: u32) -> Self {
        Self { end: Some(Ok(())), walked: needed, ..Self::starting(first, needed, needed) }
    }

    /// The `needed` clusters of the chain from `first`.
    ///
    /// # Errors
    /// Where the start of it shows that it ends early, or does not end.
    pub fn open(table: &impl Table, first: u32, needed: u32) -> Result<Self, FsError> {
        table.check(first, first)?;
        let mut chain = Self::starting(first, needed, 1);
        chain.walk(table, needed.min(CHECKED_AT_OPEN))?;
        Ok(chain)
    }

    fn starting(first: u32, needed: u32, clusters: u32) -> Self {
        let tail = Run { index: 0, cluster: first, clusters };
        Self {
            first,
            needed,
            walked: 1,
            cluster: first,
            landmark: first,
            next_landmark: 1,
            end: None,
            tail,
            kept: Vec::new(),
            whole_runs: 0,
            keep_every: 1,
            cursor: tail,
        }
    }

    /// The run that cluster `index` of the file begins, at most `wanted` clusters of it.
    ///
    /// # Errors
    /// Where the chain ends before `wanted` clusters or the file's end, or does not end.
    pub fn run_at(&mut self, table: &impl Table, index: u32, wanted: u32) -> Result<Run, FsError> {
        let end = index.saturating_add(wanted.max(1)).min(self.needed);
        if index >= end {
            return Err(self.too_short(table, index));
        }
        self.walk(table, end)?;
        let after = self.kept.partition_point(|run| run.index <= index);
        let kept = after.checked_sub(1).and_then(|position| self.kept.get(position)).copied();
        let mut run = match kept {
            _ if self.tail.index <= index => self.tail,
            Some(run) if self.cursor.index > index || self.cursor.index <= run.index => run,
            _ => self.cursor,
        };
        // One that is kept is whole: nothing that the FAT says would add to it.
        let is_whole = kept.is_some_and(|kept| kept == run && index < kept.end());
        while run.end() < end && !is_whole {
            let next = table.next(run.last_cluster())?.ok_or_else(|| self.too_short(table, run.end()))?;
            let run_end = run.end();
            if let Some(before) = run.push(next)
                && run_end > index
            {
                run = before;
                break;
            }
        }
        self.cursor = run;
        let skipped = index.saturating_sub(run.index);
        Ok(Run {
            index,
            cluster: run.cluster.saturating_add(skipped),
            clusters: run.end().min(end).saturating_sub(index),
        })
    }

    fn too_short(&self, table: &impl Table, found: u32) -> FsError {
        Fault::new("cluster chain length", table.entry_at(self.first), self.needed, found).into()
    }

    /// Walks until it is known that the file's first `clusters` clusters are there and none of them twice.
    fn walk(&mut self, table: &impl Table, clusters: u32) -> Result<(), FsError> {
        let target = clusters.saturating_mul(LOOK_AHEAD);
        while self.end.is_none() && self.walked < target {
            match self.step(table) {
                Ok(()) => {}
                Err(FsError::Corrupt(fault)) => self.end = Some(Err(fault)),
                Err(error) => return Err(error),
            }
        }
        match &self.end {
            Some(Err(fault)) => Err((*fault).into()),
            _ => Ok(()),
        }
    }

    fn step(&mut self, table: &impl Table) -> Result<(), FsError> {
        let Some(cluster) = table.next(self.cluster)? else {
            if self.walked < self.needed {
                return Err(self.too_short(table, self.walked));
            }
            self.end = Some(Ok(()));
            return Ok(());
        };
        if let Err(fault) = table.check(self.first, cluster) {
            // Behind the content it does no harm, and is no cycle.
            self.end = Some(if self.walked < self.needed { Err(fault) } else { Ok(()) });
            return Ok(());
        }
        if cluster == self.landmark || self.walked >= table.clusters() {
            return Err(Fault::new("cluster chain", table.entry_at(cluster), "an end", "a cycle").into());
        }
        if self.walked == self.next_landmark {
            self.landmark = cluster;
            self.next_landmark = self.next_landmark.saturating_mul(2);
        }
        if self.walked < self.needed
            && let Some(whole) = self.tail.push(cluster)
        {
            self.keep(whole);
        }
        self.walked = self.walked.saturating_add(1);
        self.cluster = cluster;
        Ok(())
    }

    fn keep(&mut self, run: Run) {
        if self.whole_runs.is_multiple_of(self.keep_every) {
            if self.kept.len() >= KEPT_RUNS {
                let mut keeps = false;
                self.kept.retain(|_| {
                    keeps = !keeps;
                    keeps
                });
                self.keep_every = self.keep_every.saturating_mul(2);
            }
            // What fills it up is a multiple of twice the distance too.
            self.kept.push(run);
        }
        self.whole_runs = self.whole_runs.saturating_add(1);
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test code over tables it makes"
)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;

    use super::*;

    /// A table whose chain is known, and how often it was asked.
    struct Known {
        next: HashMap<u32, u32>,
        clusters: u32,
        asked: Cell<u32>,
    }

    impl Table for Known {
        fn clusters(&self) -> u32 {
            self.clusters
        }

        fn next(&self, cluster: u32) -> Result<Option<u32>, FsError> {
            self.asked.set(self.asked.get() + 1);
            Ok(self.next.get(&cluster).copied().filter(|next| *next < u32::MAX - 8))
        }

        fn check(&self, first: u32, cluster: u32) -> Result<(), Fault> {
            match cluster.checked_sub(2).is_some_and(|index| index < self.clusters) {
                true => Ok(()),
                false => Err(Fault::new("cluster", first.into(), self.clusters, cluster)),
            }
        }

        fn entry_at(&self, cluster: u32) -> u64 {
            cluster.into()
        }
    }

    /// The table whose chain is `clusters`, and then `after`.
    fn table(clusters: &[u32], after: u32) -> Known {
        let next = clusters.iter().copied().zip(clusters.iter().copied().skip(1).chain([after])).collect();
        Known { next, clusters: clusters.iter().max().unwrap() - 1, asked: Cell::new(0) }
    }

    /// No cluster follows the one before it, and each lies in another part of the table than the one before.
    fn hops(clusters: u32) -> Vec<u32> {
        let stride = clusters / 50;
        (0..stride).flat_map(|start| (0..50).map(move |hop| 2 + start + hop * stride)).collect()
    }

    #[test]
    fn every_cluster_is_found_in_bounded_memory() {
        let clusters = hops(300_000);
        let table = table(&clusters, u32::MAX);
        let needed = clusters.len() as u32;
        let mut chain = Chain::open(&table, clusters[0], needed).unwrap();
        for (index, cluster) in (0..).zip(&clusters) {
            let run = chain.run_at(&table, index, 7).unwrap();
            assert_eq!(run, Run { index, cluster: *cluster, clusters: 1 });
        }
        assert!(chain.kept.len() <= KEPT_RUNS && chain.kept.len() * 4 > KEPT_RUNS);
        assert!(chain.kept.capacity() * size_of::<Run>() <= 512 << 10);
        for index in (0..needed).rev().step_by(997).chain((0..needed).step_by(1009)) {
            assert_eq!(chain.run_at(&table, index, u32::MAX).unwrap().cluster, clusters[index as usize]);
        }
        assert!(chain.run_at(&table, needed, 1).is_err());
    }

    #[test]
    fn a_walk_reads_no_more_than_what_is_asked_for_takes() {
        let clusters = hops(2_000_000);
        let table = table(&clusters, u32::MAX);
        drop(Chain::open(&table, clusters[0], 1).unwrap());
        assert!(table.asked.get() <= 3);
        let mut chain = Chain::open(&table, clusters[0], clusters.len() as u32).unwrap();
        assert!(table.asked.get() <= 3 + 3 * CHECKED_AT_OPEN);
        for index in 0..20_000 {
            assert_eq!(chain.run_at(&table, index, 1).unwrap().cluster, clusters[index as usize]);
        }
        assert!(table.asked.get() <= 80_000, "{}", table.asked.get());
        assert!(chain.walked <= 60_000);
    }

    #[test]
    fn runs_are_whole_and_cut_where_asked() {
        let clusters: Vec<u32> = (10..5010).chain(6000..6003).chain([5500]).collect();
        let table = table(&clusters, u32::MAX);
        let mut chain = Chain::open(&table, 10, 5004).unwrap();
        let mut found = |index, wanted| {
            let run = chain.run_at(&table, index, wanted).unwrap();
            (run.cluster, run.clusters)
        };
        assert_eq!(found(3, 4), (13, 4));
        assert_eq!(found(3, u32::MAX), (13, 4997));
        assert_eq!(found(5000, 100), (6000, 3));
        assert_eq!(found(5002, 100), (6002, 1));
        assert_eq!(found(5003, 100), (5500, 1));
        assert_eq!(found(0, u32::MAX), (10, 5000));
    }

    #[test]
    fn what_follows_the_content_is_no_fault_but_on_a_cycle() {
        let clusters = [9, 5, 7, 3];
        for after in [0, 1, 9000, u32::MAX - 8] {
            let table = table(&clusters, after);
            let mut chain = Chain::open(&table, 9, 4).unwrap();
            assert_eq!(chain.run_at(&table, 3, 9).unwrap(), Run { index: 3, cluster: 3, clusters: 1 });
            assert!(matches!(Chain::open(&table, 9, 5), Err(FsError::Corrupt(_))));
        }
        let table = table(&clusters, 5);
        assert!(matches!(Chain::open(&table, 9, 4), Err(FsError::Corrupt(_))));
    }

    #[test]
    fn no_cluster_is_given_twice() {
        for start in 0..20 {
            for length in 1..20 {
                let clusters: Vec<u32> = (0..start + length).map(|index| 2 + index * 2).collect();
                let table = table(&clusters, clusters[start as usize]);
                let there = start + length;
                for needed in there + 1..there + 4 {
                    let opened = Chain::open(&table, 2, needed).map(|_| ());
                    assert!(matches!(opened, Err(FsError::Corrupt(fault)) if fault.what == "cluster chain"));
                }
                // Beyond what is opened with, too.
                let mut late = Chain::starting(2, u32::MAX, 1);
                let given = (0..100).take_while(|index| late.run_at(&table, *index, 1).is_ok()).count();
                assert!(given <= there as usize, "{start} {length}: {given}");
            }
        }
    }
}
