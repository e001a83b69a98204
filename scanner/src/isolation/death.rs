use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// What a worker ended of before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// A panic outside every boundary.
    Panic,
    /// It aborted itself.
    Abort,
    /// A stack grew past its end.
    StackOverflow,
    /// It got no more memory.
    OutOfMemory,
    /// It touched memory that it has not.
    MemoryFault,
    /// It made a system call that it may not make.
    IllegalCall,
    /// It used up its processor time.
    ProcessorTime,
    /// A step took longer than its deadline.
    Deadline,
    /// It said nothing for longer than it may.
    Silence,
    /// It ended, or closed its channel, without an answer.
    NoAnswer,
    /// Somebody else ended it: the kernel where memory is short, an operator.
    Killed,
    /// It sent more than a scan has to say.
    Flood,
    /// What it sent is no message, or one that does not fit.
    Nonsense,
    /// It named what it cannot know.
    Forgery(&'static str),
}

impl Death {
    /// In a few words, for the ledger.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Panic => "it panicked",
            Self::Abort => "it aborted",
            Self::StackOverflow => "its stack overflowed",
            Self::OutOfMemory => "it ran out of memory",
            Self::MemoryFault => "a memory fault",
            Self::IllegalCall => "it made a system call that it may not make",
            Self::ProcessorTime => "its processor time is used up",
            Self::Deadline => "the time limit has passed",
            Self::Silence => "it did not answer",
            Self::NoAnswer => "it ended without an answer",
            Self::Killed => "it was killed from outside; memory may have been short",
            Self::Flood => "it sent more than a scan has to say",
            Self::Nonsense => "it sent what is no message",
            Self::Forgery(what) => what,
        }
    }

    /// By how a process ended by itself, and what it wrote to standard error: the runtime says there what it aborts of.
    pub(super) fn of(status: ExitStatus, said: &[u8]) -> Self {
        const ABORT: i32 = 6;
        const BUS: i32 = 7;
        const KILL: i32 = 9;
        const SEGMENT: i32 = 11;
        const CPU: i32 = 24;
        const SYSTEM_CALL: i32 = 31;
        let has_said = |words: &[u8]| said.windows(words.len()).any(|part| part == words);
        match status.signal() {
            Some(ABORT | SEGMENT) if has_said(b"has overflowed its stack") => Self::StackOverflow,
            Some(ABORT) if has_said(b"memory allocation of ") => Self::OutOfMemory,
            Some(ABORT) => Self::Abort,
            Some(SEGMENT | BUS) => Self::MemoryFault,
            Some(SYSTEM_CALL) => Self::IllegalCall,
            Some(CPU) => Self::ProcessorTime,
            Some(KILL) => Self::Killed,
            Some(_) => Self::Killed,
            None => Self::NoAnswer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_its_signal_and_by_what_the_runtime_says() {
        let ended = |signal: i32, said: &str| Death::of(ExitStatus::from_raw(signal), said.as_bytes());
        assert_eq!(ended(6, "\nthread 'x' has overflowed its stack\n"), Death::StackOverflow);
        assert_eq!(ended(6, "memory allocation of 99 bytes failed"), Death::OutOfMemory);
        assert_eq!(ended(6, ""), Death::Abort);
        assert_eq!(ended(11, ""), Death::MemoryFault);
        assert_eq!(ended(31, ""), Death::IllegalCall);
        assert_eq!(ended(24, ""), Death::ProcessorTime);
        assert_eq!(ended(9, ""), Death::Killed);
        assert_eq!(ended(0, ""), Death::NoAnswer);
    }
}
