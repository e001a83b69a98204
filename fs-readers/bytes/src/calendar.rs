//! Dates as seconds since 1970, which formats of their own calendars (FAT, ISO 9660) are given as.

/// Days from 1970-01-01 to a date of the Gregorian calendar. `None` where a number is beyond all calendars; whether month
/// and day make sense is the caller's to ask.
#[must_use]
pub fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    // Years are counted from March, so that a leap day is the last of its year.
    let year = if month > 2 { year } else { year.checked_sub(1)? };
    let month = if month > 2 { month.checked_sub(3)? } else { month.checked_add(9)? };
    let leap_days =
        year.div_euclid(4).checked_sub(year.div_euclid(100))?.checked_add(year.div_euclid(400))?;
    let day_of_year = month.checked_mul(153)?.checked_add(2)?.checked_div(5)?.checked_add(day)?;
    // 719,469 days before, 1970 began.
    year.checked_mul(365)?.checked_add(leap_days)?.checked_add(day_of_year)?.checked_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::days_since_1970;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // As `date -u -d DATE +%s` has them.
        assert_eq!(days_since_1970(1970, 1, 1), Some(0));
        assert_eq!(days_since_1970(1980, 1, 1), Some(315_532_800 / 86_400));
        assert_eq!(days_since_1970(2000, 2, 29), Some(951_782_400 / 86_400));
        assert_eq!(days_since_1970(2100, 3, 1), Some(4_107_542_400 / 86_400));
        assert_eq!(days_since_1970(1900, 1, 1), Some(-2_208_988_800 / 86_400));
        assert_eq!(days_since_1970(i64::MAX, 1, 1), None);
    }
}
