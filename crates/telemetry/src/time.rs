//! Time as logs show it. In UTC: a log line means the same wherever the node runs.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A moment of the Gregorian calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    year: i64,
    /// From 1.
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self::of(seconds())
    }

    /// The moment so many seconds after 1970 began.
    pub(crate) fn of(seconds: u64) -> Self {
        let (days, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
        // Years counted from March, so that the leap day is a year's last (H. Hinnant, "chrono-compatible
        // low-level date algorithms").
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        }
    }

    /// `25/Nov/2026:01:05:41 +0000`, as in nginx's access log.
    fn common(self) -> String {
        let Self { year, day, hour, minute, second, .. } = self;
        let month = MONTHS.get(usize::from(self.month) - 1).copied().unwrap_or_default();
        format!("{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000")
    }

    /// The same for now. A second's text is made once a thread.
    pub(crate) fn put_common_now(out: &mut Vec<u8>) {
        thread_local! {
            static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
        }
        let now = seconds();
        LAST.with_borrow_mut(|(second, text)| {
            if *second != now {
                (*second, *text) = (now, Self::of(now).common());
            }
            out.extend_from_slice(text.as_bytes());
        });
    }

    /// `2026/11/25 01:05:41`, as in nginx's error log.
    pub(crate) fn slashed(self) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        format!("{year}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn seconds_become_dates() {
        for (seconds, slashed) in [
            (0, "1970/01/01 00:00:00"),
            (951_782_399, "2000/02/28 23:59:59"),
            (951_782_400, "2000/02/29 00:00:00"),
            (1_764_032_741, "2025/11/25 01:05:41"),
            (4_107_542_400, "2100/03/01 00:00:00"),
        ] {
            assert_eq!(Moment::of(seconds).slashed(), slashed);
        }
        assert_eq!(Moment::of(1_764_032_741).common(), "25/Nov/2025:01:05:41 +0000");
    }
}
