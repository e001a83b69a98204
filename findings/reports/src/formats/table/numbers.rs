//! Numbers as people read them. U+00A0 stands between a number and its unit.

use std::time::Duration;

/// `1,204,331`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 package`, `631 packages`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{}\u{a0}{}", thousands(count), if count == 1 { one } else { many })
}

/// `512 B`, `8.0 GiB`: a power of 1024 and one decimal.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}\u{a0}B");
    }
    let mut unit_bytes = 1024_u128;
    let mut units = UNITS.iter().peekable();
    loop {
        let unit = units.next().copied().unwrap_or_default();
        let tenths = (u128::from(bytes) * 10 + unit_bytes / 2) / unit_bytes;
        // 1023.96 KiB would be shown as 1024.0 KiB.
        if tenths < 10_240 || units.peek().is_none() {
            return format!("{}.{}\u{a0}{unit}", tenths / 10, tenths % 10);
        }
        unit_bytes *= 1024;
    }
}

/// `420 ms`, `1.2 s`, `3 min 4 s`, `2 h 5 min`, `92 d 4 h`. A clock that went back makes it nothing.
pub(super) fn duration(milliseconds: i128) -> String {
    let milliseconds = u64::try_from(milliseconds.max(0)).unwrap_or(u64::MAX);
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}\u{a0}ms"),
        1..60 => format!("{seconds}.{}\u{a0}s", milliseconds % 1000 / 100),
        60..3600 => format!("{}\u{a0}min {}\u{a0}s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{}\u{a0}h {}\u{a0}min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}\u{a0}d {}\u{a0}h", thousands(seconds / 86_400), seconds / 3600 % 24),
    }
}

/// `41 s`; from a minute on as [`duration`].
pub(super) fn seconds(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds}\u{a0}s") } else { duration(i128::from(seconds) * 1000) }
}

/// Billionths of a dollar as `$1.23`; below a dollar as many places as the first two digits need.
pub(super) fn dollars(nano_usd: u64) -> String {
    let dollars = Duration::from_nanos(nano_usd).as_secs_f64();
    let places = match nano_usd {
        0 | 100_000_000.. => 2,
        10_000_000.. => 3,
        1_000_000.. => 4,
        100_000.. => 5,
        10_000.. => 6,
        1_000.. => 7,
        100.. => 8,
        _ => 9,
    };
    format!("${dollars:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_read_well() {
        assert_eq!(
            [0, 999, 1000, 66_497, u64::MAX].map(thousands),
            ["0", "999", "1,000", "66,497", "18,446,744,073,709,551,615"]
        );
        assert_eq!(
            (counted(1, "row", "rows"), counted(0, "row", "rows")),
            ("1\u{a0}row".into(), "0\u{a0}rows".into())
        );
        let sizes = [0, 1023, 1024, 1536, 1_048_575, 8 << 30, u64::MAX]
            .map(|bytes| size(bytes).replace('\u{a0}', " "));
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "8.0 GiB", "16.0 EiB"]);
        let times = [-5, 420, 1250, 184_000, 7_500_000].map(|time| duration(time).replace('\u{a0}', " "));
        assert_eq!(times, ["0 ms", "420 ms", "1.2 s", "3 min 4 s", "2 h 5 min"]);
        let lifetimes =
            [0, 41, 60, 7_500, 8_000_000, u64::MAX].map(|time| seconds(time).replace('\u{a0}', " "));
        let expected = ["0 s", "41 s", "1 min 0 s", "2 h 5 min", "92 d 14 h", "213,503,982,334 d 14 h"];
        assert_eq!(lifetimes, expected);
    }

    #[test]
    fn small_sums_are_not_nothing() {
        let sums = [0, 600, 1_200, 24_600, 597_000, 7_293_000, 12_000_000, 245_910_000_000].map(dollars);
        let expected =
            ["$0.00", "$0.00000060", "$0.0000012", "$0.000025", "$0.00060", "$0.0073", "$0.012", "$245.91"];
        assert_eq!(sums, expected);
        assert_eq!(dollars(u64::MAX), "$18446744073.71");
    }
}
