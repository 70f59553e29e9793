//! Lua's patterns, matched in bounded time.
//!
//! The C library's own matcher backtracks without end on patterns such as `.-.-.-x`, and no hook can interrupt it. This
//! one counts its steps.

use crate::budget::{Budget, Spent};

/// Most captures of a pattern (Lua 5.1: `LUA_MAXCAPTURES`).
const MOST_CAPTURES: usize = 32;

/// Deepest recursion.
const DEEPEST: usize = 200;

/// Why a pattern was not matched to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    /// Nothing can be matched by it; in Lua's words.
    #[error("{0}")]
    Malformed(&'static str),
    /// The call may run no longer.
    #[error(transparent)]
    Spent(#[from] Spent),
}

/// What a pair of parentheses took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capture {
    /// From one place up to another.
    Text(usize, usize),
    /// Where `()` stood, from 0.
    Position(usize),
}

/// A match: from where to where, and what was captured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub start: usize,
    pub end: usize,
    pub captures: Vec<Capture>,
}

/// Finds the first match at `from` or behind it. `anchors` is whether `^` in front holds the match to `from`.
///
/// # Errors
/// A malformed pattern; time that is over.
pub(crate) fn find(
    text: &[u8],
    pattern: &[u8],
    from: usize,
    anchors: bool,
    budget: &Budget,
) -> Result<Option<Match>, PatternError> {
    let (pattern, anchored) = match pattern.strip_prefix(b"^") {
        Some(rest) if anchors => (rest, true),
        _ => (pattern, false),
    };
    let mut matcher = Matcher { text, pattern, captures: Vec::new(), depth: 0, budget };
    for start in from..=text.len() {
        matcher.captures.clear();
        if let Some(end) = matcher.matches(start, 0)? {
            return Ok(Some(Match { start, end, captures: matcher.taken()? }));
        }
        if anchored {
            break;
        }
    }
    Ok(None)
}

/// A capture while it is matched.
#[derive(Clone, Copy)]
enum Open {
    Since(usize),
    Done(Capture),
}

struct Matcher<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    captures: Vec<Open>,
    depth: usize,
    budget: &'a Budget,
}

type Found<T> = Result<Option<T>, PatternError>;

const fn malformed<T>(message: &'static str) -> Result<T, PatternError> {
    Err(PatternError::Malformed(message))
}

impl Matcher<'_> {
    fn taken(&self) -> Result<Vec<Capture>, PatternError> {
        self.captures
            .iter()
            .map(|capture| match capture {
                Open::Done(capture) => Ok(*capture),
                Open::Since(_) => malformed("unfinished capture"),
            })
            .collect()
    }

    fn at(&self, place: usize) -> Option<u8> {
        self.pattern.get(place).copied()
    }

    /// Where the text matched by the pattern from `p` on ends.
    fn matches(&mut self, s: usize, p: usize) -> Found<usize> {
        if self.depth >= DEEPEST {
            return malformed("pattern too complex");
        }
        self.depth += 1;
        let end = self.matches_here(s, p);
        self.depth -= 1;
        end
    }

    fn matches_here(&mut self, mut s: usize, mut p: usize) -> Found<usize> {
        loop {
            self.budget.spend(1)?;
            let Some(item) = self.at(p) else { return Ok(Some(s)) };
            match (item, self.at(p + 1)) {
                (b'(', Some(b')')) => return self.capture(Open::Done(Capture::Position(s)), s, p + 2),
                (b'(', _) => return self.capture(Open::Since(s), s, p + 1),
                (b')', _) => return self.close(s, p + 1),
                (b'$', None) => return Ok((s == self.text.len()).then_some(s)),
                (b'%', Some(b'b')) => match self.balanced(s, p + 2)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                (b'%', Some(b'f')) => {
                    let set = p + 2;
                    if self.at(set) != Some(b'[') {
                        return malformed("missing '[' after '%f' in pattern");
                    }
                    let end = self.item_end(set)?;
                    let before = s.checked_sub(1).and_then(|before| self.text.get(before)).copied();
                    let next = self.text.get(s).copied().unwrap_or(0);
                    if self.in_set(before.unwrap_or(0), set, end) || !self.in_set(next, set, end) {
                        return Ok(None);
                    }
                    p = end;
                }
                (b'%', Some(digit @ b'0'..=b'9')) => match self.again(s, digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                _ => {
                    let end = self.item_end(p)?;
                    match self.at(end) {
                        Some(b'?') => {
                            if self.is_one(s, p, end)
                                && let Some(end) = self.matches(s + 1, end + 1)?
                            {
                                return Ok(Some(end));
                            }
                            p = end + 1;
                        }
                        Some(b'*') => return self.most(s, s, p, end),
                        Some(b'+') if self.is_one(s, p, end) => return self.most(s, s + 1, p, end),
                        Some(b'+') => return Ok(None),
                        Some(b'-') => return self.fewest(s, p, end),
                        _ if self.is_one(s, p, end) => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    /// Where the item at `p` ends: a character, a class or a set.
    fn item_end(&self, p: usize) -> Result<usize, PatternError> {
        match self.at(p) {
            Some(b'%') if self.at(p + 1).is_none() => malformed("malformed pattern (ends with '%')"),
            Some(b'%') => Ok(p + 2),
            Some(b'[') => {
                let mut at = if self.at(p + 1) == Some(b'^') { p + 2 } else { p + 1 };
                // A bracket in front is one of the set.
                loop {
                    match self.at(at) {
                        None => return malformed("malformed pattern (missing ']')"),
                        Some(b'%') if self.at(at + 1).is_none() => {
                            return malformed("malformed pattern (missing ']')");
                        }
                        Some(b'%') => at += 2,
                        Some(_) => at += 1,
                    }
                    if self.at(at) == Some(b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    /// Whether the character at `s` is what the item from `p` to `end` is for.
    fn is_one(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(&character) = self.text.get(s) else { return false };
        match self.at(p) {
            Some(b'.') => true,
            Some(b'%') => self.at(p + 1).is_some_and(|class| in_class(character, class)),
            Some(b'[') => self.in_set(character, p, end),
            other => other == Some(character),
        }
    }

    /// Whether a character is in the set from the bracket at `p` to behind the one that ends it.
    fn in_set(&self, character: u8, p: usize, end: usize) -> bool {
        let inside = self.pattern.get(p + 1..end - 1).unwrap_or_default();
        let (mut items, wanted) = match inside.strip_prefix(b"^") {
            Some(rest) => (rest, false),
            None => (inside, true),
        };
        loop {
            let (is_it, rest) = match items {
                [] => return !wanted,
                [b'%', class, rest @ ..] => (in_class(character, *class), rest),
                [first, b'-', last, rest @ ..] => ((*first..=*last).contains(&character), rest),
                [one, rest @ ..] => (*one == character, rest),
            };
            if is_it {
                return wanted;
            }
            items = rest;
        }
    }

    /// As many of an item as there are behind `least`, then fewer, down to it.
    fn most(&mut self, s: usize, least: usize, p: usize, end: usize) -> Found<usize> {
        let mut at = least.max(s);
        while self.is_one(at, p, end) {
            self.budget.spend(1)?;
            at += 1;
        }
        loop {
            if let Some(end) = self.matches(at, end + 1)? {
                return Ok(Some(end));
            }
            if at == least {
                return Ok(None);
            }
            at -= 1;
        }
    }

    /// As few of an item as will do.
    fn fewest(&mut self, mut s: usize, p: usize, end: usize) -> Found<usize> {
        loop {
            if let Some(end) = self.matches(s, end + 1)? {
                return Ok(Some(end));
            }
            if !self.is_one(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn capture(&mut self, capture: Open, s: usize, p: usize) -> Found<usize> {
        if self.captures.len() >= MOST_CAPTURES {
            return malformed("too many captures");
        }
        let level = self.captures.len();
        self.captures.push(capture);
        let end = self.matches(s, p)?;
        if end.is_none() {
            self.captures.truncate(level);
        }
        Ok(end)
    }

    fn close(&mut self, s: usize, p: usize) -> Found<usize> {
        let open = self.captures.iter().rposition(|capture| matches!(capture, Open::Since(_)));
        let Some((place, Open::Since(start))) = open.map(|place| (place, self.captures[place])) else {
            return malformed("invalid pattern capture");
        };
        self.captures[place] = Open::Done(Capture::Text(start, s));
        let end = self.matches(s, p)?;
        if end.is_none() {
            self.captures[place] = Open::Since(start);
        }
        Ok(end)
    }

    /// `%b()`: from the one to the other that belongs to it.
    fn balanced(&self, s: usize, p: usize) -> Found<usize> {
        let (Some(open), Some(close)) = (self.at(p), self.at(p + 1)) else {
            return malformed("unbalanced pattern");
        };
        if self.text.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1;
        for (place, &character) in self.text.iter().enumerate().skip(s + 1) {
            self.budget.spend(1)?;
            if character == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(place + 1));
                }
            } else if character == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%1`: what a capture took, once more.
    fn again(&self, s: usize, digit: u8) -> Found<usize> {
        let place = usize::from(digit).checked_sub(usize::from(b'1'));
        let Some(Open::Done(Capture::Text(start, end))) = place.and_then(|place| self.captures.get(place))
        else {
            return malformed("invalid capture index");
        };
        let taken = self.text.get(*start..*end).unwrap_or_default();
        self.budget.spend(taken.len() as u64)?;
        let rest = self.text.get(s..).unwrap_or_default();
        Ok(rest.starts_with(taken).then_some(s + taken.len()))
    }
}

/// Whether a character is of a class such as `%d`; what is no letter stands for itself.
fn in_class(character: u8, class: u8) -> bool {
    let is_it = match class.to_ascii_lowercase() {
        b'a' => character.is_ascii_alphabetic(),
        b'c' => character.is_ascii_control(),
        b'd' => character.is_ascii_digit(),
        b'l' => character.is_ascii_lowercase(),
        b'p' => character.is_ascii_punctuation(),
        b's' => matches!(character, b' ' | b'\t'..=b'\r'),
        b'u' => character.is_ascii_uppercase(),
        b'w' => character.is_ascii_alphanumeric(),
        b'x' => character.is_ascii_hexdigit(),
        b'z' => character == 0,
        _ => return class == character,
    };
    is_it != class.is_ascii_uppercase()
}
