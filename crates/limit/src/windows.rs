//! Amounts used in windows of any length, such as tokens in a minute.

use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::table::Table;

/// Where windows begin and how they follow each other (Kong 3.11: `window_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowType {
    /// A window stands for itself.
    Fixed,
    /// The window before counts too, less and less as the current one goes by.
    Sliding,
}

/// A window at a moment. Windows begin at multiples of their length since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// When it began, in seconds since 1970.
    pub start: u64,
    /// Its length in seconds.
    pub size: u64,
    /// How much the window before counts, from 0 to 1.
    pub previous_weight: f64,
    /// Seconds gone by of it.
    elapsed: f64,
}

impl Window {
    /// The window of `size` seconds (at least 1) that `now`, since 1970, lies in.
    pub fn at(kind: WindowType, size: u64, now: Duration) -> Self {
        let size = size.max(1);
        let start = now.as_secs() - now.as_secs() % size;
        let elapsed = now.as_secs_f64() - start as f64;
        let previous_weight = match kind {
            WindowType::Fixed => 0.0,
            WindowType::Sliding => (size as f64 - elapsed) / size as f64,
        };
        Self { start, size, previous_weight, elapsed }
    }

    /// When the window before began.
    pub fn previous_start(&self) -> u64 {
        self.start.saturating_sub(self.size)
    }

    /// Seconds until a limit has room again if nothing more is used, at least 1. `current` and `previous` are
    /// the amounts used in this window and the one before.
    pub fn seconds_until_room(&self, most: f64, current: f64, previous: f64) -> u64 {
        let size = self.size as f64;
        // The part of a window after which so much of the window before it no longer fills the rest.
        let part = |amount: f64, room: f64| if amount > 0.0 { (1.0 - room / amount).max(0.0) } else { 0.0 };
        let seconds = if self.previous_weight == 0.0 {
            size - self.elapsed
        } else if current < most {
            part(previous, most - current) * size - self.elapsed
        } else {
            size - self.elapsed + part(current, most) * size
        };
        (seconds.max(0.0).floor() as u64).saturating_add(1).min(2 * self.size)
    }
}

/// The windows of one length, with what was used in them by key. Lock-free, of bounded size; windows that are
/// over go as a whole.
pub struct Windows {
    size: u64,
    tables: ArcSwap<Tables>,
}

struct Tables {
    current: Arc<Table>,
    previous: Arc<Table>,
}

/// A key, as [`Windows`] knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Of a key.
    pub fn of(key: &impl Hash) -> Self {
        static HASHER: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);
        Self(HASHER.hash_one(key))
    }
}

/// What was used in a window and in the one before.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Used {
    /// In the window itself.
    pub current: f64,
    /// In the window before.
    pub previous: f64,
}

impl Used {
    /// What counts of it in this window.
    pub fn in_window(&self, window: &Window) -> f64 {
        self.current + self.previous * window.previous_weight
    }
}

/// An amount that is to be used of one limit.
pub struct Claim<'a> {
    /// The windows of the limit's length.
    pub windows: &'a Windows,
    /// Whose it is.
    pub key: KeyHash,
    /// The window it falls in.
    pub window: Window,
    /// The limit: with so much used there is no room. `None` where the amount is only looked at.
    pub most: Option<f64>,
    /// How much.
    pub amount: f64,
}

impl Windows {
    /// Windows of so many seconds, with nothing used.
    pub fn new(size: u64) -> Self {
        let tables = Tables { current: Arc::new(Table::new(0)), previous: Arc::new(Table::new(0)) };
        Self { size, tables: ArcSwap::from_pointee(tables) }
    }

    /// The tables once a window that began at `start` is there.
    fn tables(&self, start: u64) -> arc_swap::Guard<Arc<Tables>> {
        let tables = self.tables.load();
        // A clock that was set back goes on counting in the window it had reached.
        if tables.current.start >= start {
            return tables;
        }
        let previous = if tables.current.start + self.size == start {
            Arc::clone(&tables.current)
        } else {
            Arc::new(Table::new(start.saturating_sub(self.size)))
        };
        let next = Arc::new(Tables { current: Arc::new(Table::new(start)), previous });
        self.tables.compare_and_swap(&tables, next);
        self.tables.load()
    }

    /// What was used.
    pub fn used(&self, key: KeyHash, window: &Window) -> Used {
        let tables = self.tables(window.start);
        let amount = |table: &Table| table.slot(key.0).map_or(0.0, |slot| slot.amount());
        let previous = if window.previous_weight > 0.0 { amount(&tables.previous) } else { 0.0 };
        Used { current: amount(&tables.current), previous }
    }

    /// Adds to what was used in the window that began at `start`, or takes from it (never below 0). What is over
    /// for longer than a window is left as it is.
    pub fn add(&self, key: KeyHash, start: u64, amount: f64) {
        let tables = self.tables(start);
        let table = [&tables.current, &tables.previous].into_iter().find(|table| table.start == start);
        if let Some(slot) = table.and_then(|table| table.slot(key.0)) {
            slot.add_amount(amount);
        }
    }
}

/// Uses the amounts, where all limits have room; else none. What had been used before is put into `used`.
///
/// Where several ask at the same moment none of the limits is passed by more than one of them.
pub fn take(claims: &[Claim<'_>], used: &mut Vec<Used>) -> bool {
    used.clear();
    used.extend(claims.iter().map(|claim| claim.windows.used(claim.key, &claim.window)));
    let has_room = |(claim, used): (&Claim<'_>, &Used)| {
        claim.most.is_none_or(|most| used.in_window(&claim.window) < most)
    };
    if !claims.iter().zip(&*used).all(has_room) {
        return false;
    }
    for (index, claim) in claims.iter().enumerate() {
        let Some(seen) = used.get_mut(index) else { continue };
        let tables = claim.windows.tables(claim.window.start);
        let Some(slot) = tables.current.slot(claim.key.0) else { continue };
        let below = claim.most.map(|most| most - seen.previous * claim.window.previous_weight);
        match slot.add_amount_below(below.unwrap_or(f64::INFINITY), claim.amount) {
            Ok(current) => seen.current = current,
            Err(current) => {
                // Others were faster since the look above: what was taken goes back.
                seen.current = current;
                for earlier in claims.iter().take(index) {
                    earlier.windows.add(earlier.key, earlier.window.start, -earlier.amount);
                }
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(windows: &Windows, window: Window, most: f64, amount: f64) -> Claim<'_> {
        Claim { windows, key: KeyHash::of(&"a"), window, most: Some(most), amount }
    }

    fn fixed(size: u64, now: u64) -> Window {
        Window::at(WindowType::Fixed, size, Duration::from_secs(now))
    }

    #[test]
    fn windows_slide() {
        let windows = Windows::new(60);
        let at = |seconds| Window::at(WindowType::Sliding, 60, Duration::from_secs(seconds));
        let key = KeyHash::of(&"a");
        windows.add(key, 600, 90.0);
        let thousandths = |now| (windows.used(key, &at(now)).in_window(&at(now)) * 1000.0).round();
        assert_eq!([659, 660, 675, 690, 719].map(thousandths), [90e3, 90e3, 67.5e3, 45e3, 1.5e3]);
        windows.add(key, 660, 10.0);
        assert_eq!([690, 726, 800].map(thousandths), [55e3, 9e3, 0.0]);
    }

    #[test]
    fn a_window_that_is_over_takes_what_is_settled_late_and_no_other_does() {
        let windows = Windows::new(10);
        let key = KeyHash::of(&"a");
        windows.add(key, 10, 5.0);
        windows.add(key, 20, 7.0);
        windows.add(key, 10, -3.0);
        let window = Window::at(WindowType::Sliding, 10, Duration::from_secs(20));
        assert_eq!(windows.used(key, &window), Used { current: 7.0, previous: 2.0 });
        windows.add(key, 30, 1.0);
        windows.add(key, 10, 100.0);
        windows.add(key, 20, -100.0);
        let window = Window::at(WindowType::Sliding, 10, Duration::from_secs(30));
        assert_eq!(windows.used(key, &window), Used { current: 1.0, previous: 0.0 });
    }

    #[test]
    fn nothing_is_taken_where_one_limit_is_reached() {
        let (minute, hour) = (Windows::new(60), Windows::new(3600));
        let mut used = Vec::new();
        let mut take_at = |now| {
            let claims =
                [claim(&minute, fixed(60, now), 10.0, 6.5), claim(&hour, fixed(3600, now), 15.0, 6.5)];
            let allowed = take(&claims, &mut used);
            (allowed, used[0].current, used[1].current)
        };
        assert_eq!(take_at(3600), (true, 0.0, 0.0));
        assert_eq!(take_at(3601), (true, 6.5, 6.5));
        assert_eq!(take_at(3602), (false, 13.0, 13.0));
        assert_eq!(take_at(3660), (true, 0.0, 13.0));
        assert_eq!(take_at(3661), (false, 6.5, 19.5));
    }

    #[test]
    fn threads_together_pass_a_limit_by_less_than_one_of_them() {
        let (minute, hour) = (Windows::new(60), Windows::new(3600));
        let allowed: usize = std::thread::scope(|scope| {
            let run = || {
                let mut used = Vec::new();
                let mut once = || {
                    let claims = [
                        claim(&minute, fixed(60, 3600), 10_000.0, 3.0),
                        claim(&hour, fixed(3600, 3600), 700.5, 3.0),
                    ];
                    take(&claims, &mut used)
                };
                (0..200).filter(|_| once()).count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(allowed, 234);
        assert_eq!(minute.used(KeyHash::of(&"a"), &fixed(60, 3600)).current, 702.0);
    }

    #[test]
    fn room_comes_back_when_it_is_said_to() {
        for (now, most, current, previous) in [
            (630, 100.0, 100.0, 0.0),
            (600, 100.0, 40.0, 90.0),
            (645, 100.0, 250.0, 10.0),
            (659, 1.0, 1.0, 5.0),
        ] {
            let window = Window::at(WindowType::Sliding, 60, Duration::from_secs(now));
            let windows = Windows::new(60);
            let key = KeyHash::of(&"a");
            windows.add(key, 540, previous);
            windows.add(key, 600, current);
            let wait = window.seconds_until_room(most, current, previous);
            let used = |now| {
                let window = Window::at(WindowType::Sliding, 60, Duration::from_secs(now));
                windows.used(key, &window).in_window(&window)
            };
            assert!(wait < 2 || used(now + wait - 1) >= most, "{now}: not as late as {wait}");
            assert!(used(now + wait) < most, "{now}: not after {wait}");
        }
        assert_eq!(fixed(60, 630).seconds_until_room(1.0, 1.0, 0.0), 31);
    }
}
