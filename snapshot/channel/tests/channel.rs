//! Two ends of lanes in one process: what is read over them is the disk, and what is no question ends a lane.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::single_range_in_vec_init,
    reason = "tests, in which hints are ranges, and often one"
)]

use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use stillframe_block::{
    BlockSource, Budget, BudgetSource, ExhaustedBudget, MemorySource, ReadError, SparseMemorySource,
};
use stillframe_channel::{ChannelSource, Lanes, Misuse, serve};

fn lanes(count: usize, disks: &[Arc<dyn BlockSource>]) -> (Arc<Lanes>, Vec<JoinHandle<Result<(), Misuse>>>) {
    let mut ours = Vec::new();
    let mut serving = Vec::new();
    for _ in 0..count {
        let (one, other) = UnixStream::pair().unwrap();
        let disks = disks.to_vec();
        ours.push(one);
        serving.push(thread::spawn(move || serve(&other, &disks)));
    }
    (Lanes::new(ours), serving)
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 7 + at / 251 + seed) % 256).unwrap()).collect()
}

#[test]
fn many_threads_read_two_disks_over_few_lanes() {
    let content = [bytes(3 << 20, 1), bytes((1 << 20) + 77, 2)];
    let disks: Vec<Arc<dyn BlockSource>> =
        content.iter().map(|bytes| Arc::new(MemorySource(bytes.clone())) as Arc<dyn BlockSource>).collect();
    let (lanes, serving) = lanes(3, &disks);
    thread::scope(|scope| {
        for reader in 0..16_usize {
            let (lanes, content) = (lanes.clone(), &content);
            scope.spawn(move || {
                let disk = reader % 2;
                let expected = &content[disk];
                let number = u16::try_from(disk).unwrap();
                let len = u64::try_from(expected.len()).unwrap();
                let source = ChannelSource::new(lanes, number, len, false);
                let mut whole = vec![0; expected.len()];
                source.read_exact_at(0, &mut whole).unwrap();
                assert!(whole == *expected);
                let at = reader * 4099;
                let mut part = vec![0; 8191];
                source.read_exact_at(u64::try_from(at).unwrap(), &mut part).unwrap();
                assert!(part == expected[at..at + 8191]);
            });
        }
    });
    drop(lanes);
    for lane in serving {
        assert_eq!(lane.join().unwrap(), Ok(()));
    }
}

#[test]
fn errors_come_through_as_they_are() {
    let memory: Arc<dyn BlockSource> = Arc::new(MemorySource(vec![1; 4096]));
    let limited: Arc<dyn BlockSource> =
        Arc::new(BudgetSource::new(memory.clone(), Budget { bytes: 10, ..Budget::default() }));
    let (lanes, _serving) = lanes(1, &[memory, limited]);
    let longer_than_it_is = ChannelSource::new(lanes.clone(), 0, 8192, false);
    let error = longer_than_it_is.read_exact_at(4090, &mut [0; 10]).unwrap_err();
    assert!(matches!(error, ReadError::OutOfBounds { offset: 4090, len: 10, source_len: 4096 }), "{error:?}");
    let error = longer_than_it_is.read_exact_at(u64::MAX, &mut [0; 10]).unwrap_err();
    assert!(matches!(error, ReadError::OutOfBounds { source_len: 8192, .. }));
    let limited = ChannelSource::new(lanes.clone(), 1, 4096, false);
    let error = limited.read_exact_at(0, &mut [0; 11]).unwrap_err();
    assert!(matches!(error, ReadError::Budget(ExhaustedBudget::Bytes { cap: 10 })), "{error:?}");
    // The lane is none the worse.
    let mut byte = [0];
    ChannelSource::new(lanes, 0, 4096, false).read_exact_at(4095, &mut byte).unwrap();
    assert_eq!(byte, [1]);
}

#[test]
fn holes_are_known_on_the_other_side() {
    let mut sparse = SparseMemorySource::default();
    sparse.set_len(1 << 40);
    sparse.set(1 << 39, 1);
    let expected = sparse.next_written(0).unwrap();
    let (lanes, _serving) = lanes(1, &[Arc::new(sparse)]);
    let source = ChannelSource::new(lanes, 0, 1 << 40, false);
    assert_eq!(source.next_written(0).unwrap(), expected);
    assert_eq!(source.next_written((1 << 39) + (1 << 20)).unwrap(), None);
}

#[derive(Default)]
struct Hints(Mutex<Vec<Range<u64>>>);

impl BlockSource for Hints {
    fn len_bytes(&self) -> u64 {
        1 << 30
    }

    fn read_exact_at(&self, _: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        buffer.fill(7);
        Ok(())
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        self.0.lock().unwrap().extend_from_slice(ranges);
    }
}

#[test]
fn hints_arrive_before_the_read_that_follows_them() {
    let disk = Arc::new(Hints::default());
    let served: Arc<dyn BlockSource> = disk.clone();
    let (lanes, _serving) = lanes(1, &[served]);
    let source = ChannelSource::new(lanes.clone(), 0, 1 << 30, true);
    source.prefetch(&[5..9, 100..200]);
    source.read_exact_at(0, &mut [0; 1]).unwrap();
    assert_eq!(*disk.0.lock().unwrap(), [5..9, 100..200]);
    // More than is taken is cut, and where nobody wants hints none are sent.
    source.prefetch(&vec![1..2; 5000]);
    ChannelSource::new(lanes, 0, 1 << 30, false).prefetch(&[3..4]);
    source.read_exact_at(0, &mut [0; 1]).unwrap();
    assert_eq!(disk.0.lock().unwrap().len(), 2 + 4096);
}

/// Sends raw bytes; gives how serving ended and what was answered.
fn raw(sent: &[u8]) -> (Result<(), Misuse>, Vec<u8>) {
    let (mut one, other) = UnixStream::pair().unwrap();
    let serving = thread::spawn(move || {
        let disks: [Arc<dyn BlockSource>; 1] = [Arc::new(MemorySource(vec![1; 4096]))];
        serve(&other, &disks)
    });
    let _ = one.write_all(sent);
    one.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answered = Vec::new();
    let _ = one.read_to_end(&mut answered);
    (serving.join().unwrap(), answered)
}

fn question(asked: u8, disk: u16, len: u32, offset: u64) -> Vec<u8> {
    let mut bytes = vec![asked, 0];
    bytes.extend(disk.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

#[test]
fn what_is_no_question_ends_the_lane_and_gets_nothing() {
    let wrong = [
        question(0, 0, 1, 0),
        question(9, 0, 1, 0),
        question(1, 1, 1, 0),
        question(1, 0, u32::MAX, 0),
        question(1, 0, 512 * 1024 + 1, 0),
        question(3, 0, u32::MAX, 0),
        question(2, u16::MAX, 0, 0),
    ];
    for sent in wrong {
        let (ended, answered) = raw(&sent);
        assert!(ended.is_err(), "{sent:?}");
        assert_eq!(answered, [], "{sent:?}");
    }
    // Cut short, or past the end: no misuse.
    assert_eq!(raw(&question(1, 0, 1, 0)[..7]), (Ok(()), vec![]));
    assert_eq!(raw(&question(3, 0, 2, 0)), (Ok(()), vec![]));
    let (ended, answered) = raw(&question(1, 0, 4096, u64::MAX - 1));
    assert_eq!((ended, answered.len()), (Ok(()), 24), "an error has no bytes");
    let (ended, answered) = raw(&question(1, 0, 4096, 0));
    assert_eq!((ended, answered.len()), (Ok(()), 24 + 4096));
}

#[test]
fn random_bytes_never_panic_the_server() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..500 {
        let mut sent = Vec::new();
        for _ in 0..8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Mostly questions that begin well.
            sent.extend(question(
                u8::try_from(state % 5).unwrap(),
                u16::try_from(state >> 62).unwrap() / 2,
                u32::try_from((state >> 8) % 700_000).unwrap(),
                state >> 50,
            ));
        }
        let _ = raw(&sent);
    }
}

#[test]
fn a_server_that_is_gone_is_an_error_and_no_wait() {
    let (one, other) = UnixStream::pair().unwrap();
    drop(other);
    let source = ChannelSource::new(Lanes::new(vec![one]), 0, 4096, true);
    for _ in 0..3 {
        assert!(matches!(source.read_exact_at(0, &mut [0; 1]), Err(ReadError::Io { .. })));
    }
    source.prefetch(&[0..1]);
    assert!(source.next_written(0).is_err());
    let none = ChannelSource::new(Lanes::new(vec![]), 0, 4096, true);
    assert!(none.read_exact_at(0, &mut [0; 1]).is_err());
}
