//! What ends a reader.

use std::hint::black_box;
use std::time::Duration;

/// Does not come back; or comes back, where it is not known.
pub(crate) fn die(how: &str) {
    match how {
        "panic" => panic!("content of a file: SECRET"),
        "abort" => std::process::abort(),
        "overflow" => {
            black_box(overflow(1));
        }
        "memory" => {
            let all = vec![1_u8; 1 << 42];
            black_box(&all);
        }
        "touched memory" => {
            let mut all = Vec::new();
            loop {
                // Piece by piece, as a list does that a crafted disk makes grow.
                all.push(vec![1_u8; 64 << 20]);
                black_box(&all);
            }
        }
        "loop" => loop {
            black_box(0);
        },
        "sleep" => std::thread::sleep(Duration::from_secs(3600)),
        "system call" => {
            let _ = std::os::unix::net::UnixStream::pair();
        }
        "exit" => std::process::exit(0),
        _ => {}
    }
}

#[expect(unconditional_recursion, reason = "the stack is to end")]
fn overflow(depth: u64) -> u64 {
    let room = [depth; 512];
    black_box(&room);
    overflow(depth + 1) + room[7]
}
