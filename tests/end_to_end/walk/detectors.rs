//! Detectors that want `wanted`, each in its way, and tell its length and the sum of its bytes.

use stillframe_detectors::{
    Delivered, Delivery, Detector, Fact, Found, Interest, Pattern, Sourced, StreamSink,
};
use stillframe_fs::{FsError, read_whole};
use stillframe_model::{DiskText, Scanner};
use stillframe_scanner::deliver::Harvest;

const NAME: Pattern = Pattern::Named("wanted");

pub(super) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

fn tell(found: &Found<'_>, what: String, facts: &mut Vec<Sourced<Fact>>) {
    facts.push(found.fact(Fact::Hostname(DiskText::new(&what))));
}

/// What the detectors told.
pub(super) trait Facts {
    fn facts_shown(&self) -> Vec<String>;
}

impl Facts for Harvest {
    fn facts_shown(&self) -> Vec<String> {
        let mut shown: Vec<_> = self
            .facts
            .iter()
            .map(|fact| match &fact.what {
                Fact::Hostname(text) => text.as_str().to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        shown.sort();
        shown
    }
}

macro_rules! detector {
    ($detector:ty, |$self:ident| $delivery:expr, $($rest:item)*) => {
        impl Detector for $detector {
            fn name(&self) -> &'static str {
                stringify!($detector)
            }

            fn scanner(&self) -> Scanner {
                Scanner::Inventory
            }

            fn interests(&$self) -> Vec<Interest> {
                vec![Interest { pattern: NAME, delivery: $delivery }]
            }

            $($rest)*
        }
    };
}

/// Wants the whole file, up to a cap.
pub(super) struct Wholes(pub(super) u64);

detector! {
    Wholes, |self| Delivery::Whole { cap_bytes: self.0 },
    fn inspect(
        &self, found: &Found<'_>, content: Delivered<'_>, facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        let Delivered::Whole(bytes) = content else { panic!("not whole") };
        tell(found, format!("whole {} {}", bytes.len(), sum(bytes)), facts);
        Ok(())
    }
}

/// Wants the file open, and reads it whole.
pub(super) struct Opens;

detector! {
    Opens, |self| Delivery::Open,
    fn inspect(
        &self, found: &Found<'_>, content: Delivered<'_>, facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        let Delivered::Open(file, _) = content else { panic!("not open") };
        let bytes = read_whole(file, u64::MAX)?;
        tell(found, format!("open {} {}", bytes.len(), sum(&bytes)), facts);
        Ok(())
    }
}

/// Wants the entry alone.
pub(super) struct Entries;

detector! {
    Entries, |self| Delivery::Entry,
    fn inspect(
        &self, found: &Found<'_>, content: Delivered<'_>, facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        assert!(matches!(content, Delivered::Entry), "more than the entry");
        tell(found, "entry".to_owned(), facts);
        Ok(())
    }
}

/// Takes so many pieces.
pub(super) struct Streams(usize);

impl Streams {
    pub(super) const fn to_end() -> Self {
        Self(usize::MAX)
    }

    pub(super) const fn pieces(count: usize) -> Self {
        Self(count)
    }
}

detector! {
    Streams, |self| Delivery::Stream,
    fn inspect(&self, _: &Found<'_>, _: Delivered<'_>, _: &mut Vec<Sourced<Fact>>) -> Result<(), FsError> {
        panic!("a stream is not inspected")
    }
    fn stream(&self, _: &Found<'_>) -> Option<Box<dyn StreamSink>> {
        Some(Box::new(Adder { pieces_left: self.0, len: 0, sum: 0 }))
    }
}

struct Adder {
    pieces_left: usize,
    len: usize,
    sum: u64,
}

impl StreamSink for Adder {
    fn take(&mut self, piece: &[u8]) -> bool {
        assert!(self.pieces_left > 0, "a piece after the last that was asked for");
        self.pieces_left -= 1;
        self.len += piece.len();
        self.sum += sum(piece);
        self.pieces_left > 0
    }

    fn end(self: Box<Self>, found: &Found<'_>, facts: &mut Vec<Sourced<Fact>>) {
        tell(found, format!("stream {} {}", self.len, self.sum), facts);
    }
}

/// Where a detector panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Panics {
    Inspect,
    Begin,
    Take,
    End,
}

impl Panics {
    fn here(self, place: Self) {
        assert!(self != place, "a made-up detector panics: {place:?}");
    }
}

detector! {
    Panics, |self| if *self == Self::Inspect { Delivery::Open } else { Delivery::Stream },
    fn inspect(&self, _: &Found<'_>, _: Delivered<'_>, _: &mut Vec<Sourced<Fact>>) -> Result<(), FsError> {
        self.here(Self::Inspect);
        Ok(())
    }
    fn stream(&self, _: &Found<'_>) -> Option<Box<dyn StreamSink>> {
        self.here(Self::Begin);
        Some(Box::new(PanickingSink(*self)))
    }
}

struct PanickingSink(Panics);

impl StreamSink for PanickingSink {
    fn take(&mut self, _: &[u8]) -> bool {
        self.0.here(Panics::Take);
        true
    }

    fn end(self: Box<Self>, found: &Found<'_>, facts: &mut Vec<Sourced<Fact>>) {
        self.0.here(Panics::End);
        tell(found, "a panicking detector came to its end".to_owned(), facts);
    }
}
