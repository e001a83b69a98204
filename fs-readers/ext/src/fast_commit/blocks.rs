use std::collections::BTreeMap;

use crate::block_map::Run;

/// Where fast commits put blocks of one file, by the first block of each range; ranges do not overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MovedBlocks {
    ranges: BTreeMap<u64, Run>,
}

/// What is known of a block of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// It lies here now, and so do those behind it.
    Run(Run),
    /// So many blocks from it on lie where the inode says.
    Not(u64),
}

impl MovedBlocks {
    /// The run that begins at `block` of the file.
    pub(crate) fn run(&self, block: u64) -> Moved {
        if let Some((first, run)) = self.ranges.range(..=block).next_back() {
            let within = block.saturating_sub(*first);
            if within < run.len_blocks {
                return Moved::Run(Run {
                    len_blocks: run.len_blocks.saturating_sub(within),
                    start: run.start.map(|start| start.saturating_add(within)),
                });
            }
        }
        let next = self.ranges.range(block..).next();
        Moved::Not(next.map_or(u64::MAX, |(first, _)| first.saturating_sub(block)))
    }

    /// From now on the blocks from `first` on lie where `run` says, whatever was said of them before.
    pub(super) fn put(&mut self, first: u64, run: Run) {
        if run.len_blocks == 0 {
            return;
        }
        let end = first.saturating_add(run.len_blocks);
        // A range that begins before keeps what is before, and behind.
        if let Some((begin, old)) = self.ranges.range(..first).next_back().map(|(begin, old)| (*begin, *old))
        {
            let old_end = begin.saturating_add(old.len_blocks);
            if old_end > first {
                self.ranges.insert(begin, Run { len_blocks: first.saturating_sub(begin), ..old });
                self.keep_behind(begin, old, end);
            }
        }
        while let Some((begin, old)) = self.ranges.range(first..end).next().map(|(begin, old)| (*begin, *old))
        {
            self.ranges.remove(&begin);
            self.keep_behind(begin, old, end);
        }
        self.ranges.insert(first, run);
    }

    /// So many ranges are kept.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(super) fn clear(&mut self) {
        self.ranges.clear();
    }

    fn keep_behind(&mut self, begin: u64, old: Run, end: u64) {
        let cut = end.saturating_sub(begin);
        if old.len_blocks > cut {
            let rest = Run {
                len_blocks: old.len_blocks.saturating_sub(cut),
                start: old.start.map(|start| start.saturating_add(cut)),
            };
            self.ranges.insert(end, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, block by block.
    #[test]
    fn ranges_lie_over_each_other_as_blocks_do() {
        let mut seed = 7_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let mut moved = MovedBlocks::default();
            let mut model: [Option<Option<u64>>; 64] = [None; 64];
            for _ in 0..12 {
                let (first, len_blocks) = (next(60), next(9).min(4));
                let start = (next(3) > 0).then(|| next(1000));
                moved.put(first, Run { len_blocks, start });
                for step in 0..len_blocks {
                    model[usize::try_from(first + step).unwrap()] = Some(start.map(|start| start + step));
                }
            }
            for (block, expected) in (0..).zip(model) {
                let found = match moved.run(block) {
                    Moved::Run(run) => {
                        assert!(run.len_blocks >= 1);
                        Some(run.start)
                    }
                    Moved::Not(len_blocks) => {
                        assert!(len_blocks >= 1);
                        None
                    }
                };
                assert_eq!(found, expected, "block {block}");
            }
        }
    }
}
