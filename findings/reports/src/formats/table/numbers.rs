//! Numbers as people read them. U+00A0 stands between a number and its unit.

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

/// `420 ms`, `1.2 s`, `3 min 4 s`, `2 h 5 min`. A clock that went back makes it nothing.
pub(super) fn duration(milliseconds: i128) -> String {
    let milliseconds = u64::try_from(milliseconds.max(0)).unwrap_or(u64::MAX);
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}\u{a0}ms"),
        1..60 => format!("{seconds}.{}\u{a0}s", milliseconds % 1000 / 100),
        60..3600 => format!("{}\u{a0}min {}\u{a0}s", seconds / 60, seconds % 60),
        _ => format!("{}\u{a0}h {}\u{a0}min", thousands(seconds / 3600), seconds / 60 % 60),
    }
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
    }
}
