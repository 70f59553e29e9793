//! Windows of the calendar.

/// The length of a window. Windows begin where the calendar does, in UTC: a minute at its second 0, a month
/// at its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month of the calendar.
    Month,
    /// A year of the calendar.
    Year,
}

const DAY: u64 = 86_400;

impl Period {
    /// All of them, shortest first.
    pub const ALL: [Self; 6] = [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Month, Self::Year];

    /// The name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Seconds it counts as when clients are told how long to wait: a month has 30 days, a year 365 (Kong 3.11).
    pub fn nominal_seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => DAY,
            Self::Month => 30 * DAY,
            Self::Year => 365 * DAY,
        }
    }

    /// When the window that `now` lies in began. Both in seconds since 1970.
    pub fn start(self, now: u64) -> u64 {
        match self {
            Self::Second | Self::Minute | Self::Hour | Self::Day => now - now % self.nominal_seconds(),
            Self::Month => {
                let (_, _, day) = date(now / DAY);
                (now / DAY - (day - 1)) * DAY
            }
            Self::Year => {
                let (year, _, _) = date(now / DAY);
                days_before_year(year) * DAY
            }
        }
    }

    /// Seconds until the window that `now` lies in is over by its nominal length; at least 1.
    pub fn seconds_left(self, now: u64) -> u64 {
        (self.nominal_seconds().saturating_sub(now - self.start(now))).max(1)
    }
}

/// Days from 1970 to the first day of a year.
fn days_before_year(year: u64) -> u64 {
    let before = year - 1;
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leap_days(before) - leap_days(1969)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

/// Year, month and day (both from 1) of a day counted from 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_before_year(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_before_year(year);
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_begin_where_the_calendar_does() {
        // 2024-02-29 13:45:59 UTC, a leap day.
        let now = 1_709_214_359;
        for (period, start) in [
            (Period::Second, now),
            (Period::Minute, 1_709_214_300),
            (Period::Hour, 1_709_211_600),
            (Period::Day, 1_709_164_800),
            (Period::Month, 1_706_745_600),
            (Period::Year, 1_704_067_200),
        ] {
            assert_eq!(period.start(now), start, "{period:?}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (364, (1970, 12, 31)),
            (365, (1971, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (20_088, (2024, 12, 31)),
            (20_089, (2025, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn a_long_month_does_not_end_before_its_nominal_second() {
        // 2025-01-31 12:00:00: the 30 days are over.
        assert_eq!(Period::Month.seconds_left(1_738_324_800), 1);
        assert_eq!(Period::Minute.seconds_left(60), 60);
        assert_eq!(Period::Minute.seconds_left(119), 1);
    }

    proptest! {
        #[test]
        fn a_start_is_its_own_start_and_never_after_now(now in 0_u64..8_000_000_000) {
            for period in Period::ALL {
                let start = period.start(now);
                prop_assert!(start <= now);
                prop_assert_eq!(period.start(start), start);
                if start > 0 {
                    prop_assert!(period.start(start - 1) < start);
                }
            }
        }
    }
}
