//! Pure: how many workers there may be: `4`, `2..8`, or `0..8`.

use std::fmt;
use std::str::FromStr;

/// A number of workers, or from where to where it may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Zero: none until a request needs one.
    pub least: u32,
    /// Not below `least`.
    pub most: u32,
}

impl Bounds {
    pub fn exactly(workers: u32) -> Self {
        Self { least: workers, most: workers }
    }

    /// The number may move.
    pub fn is_range(self) -> bool {
        self.least < self.most
    }

    pub fn clamp(self, workers: u32) -> u32 {
        workers.clamp(self.least, self.most)
    }

    /// There may be none, until a request needs one.
    pub fn begins_at_zero(self) -> bool {
        self.least == 0
    }

    /// How many there are at the start: at least one, to see whether the application can be loaded.
    pub fn at_the_start(self) -> u32 {
        self.least.max(1)
    }

    /// Both ends one higher; zero stays.
    #[must_use]
    pub fn raised(self) -> Self {
        Self { least: if self.begins_at_zero() { 0 } else { self.least + 1 }, most: self.most + 1 }
    }

    /// Both ends one lower, but not below one; zero stays.
    #[must_use]
    pub fn lowered(self) -> Self {
        let less = |workers: u32| workers.saturating_sub(1).max(1);
        Self { least: if self.begins_at_zero() { 0 } else { less(self.least) }, most: less(self.most) }
    }

    /// Whether that many can be had: at least one, if only now and then, and no more than this.
    pub fn is_within(self, most: u32) -> bool {
        (1..=most).contains(&self.most)
    }

    /// What a text that is none was probably meant to say.
    pub fn guess(text: &str) -> Option<String> {
        let is_break = |character: char| !character.is_ascii_digit();
        let numbers: Vec<u32> = text.split(is_break).filter_map(|part| part.parse().ok()).collect();
        let [first, second] = numbers[..] else { return None };
        if first.max(second) == 0 {
            return None;
        }
        let meant = Self { least: first.min(second), most: first.max(second) };
        Some(if first > second { format!("the smaller number comes first: {meant}") } else { format!("write {meant}") })
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_range() { write!(formatter, "{}..{}", self.least, self.most) } else { self.least.fmt(formatter) }
    }
}

/// Neither a number nor a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a number nor a range such as 2..8")]
pub struct NotBounds;

impl FromStr for Bounds {
    type Err = NotBounds;

    fn from_str(text: &str) -> Result<Self, NotBounds> {
        let number = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse().ok()).flatten().ok_or(NotBounds)
        };
        let (least, most) = match text.split_once("..") {
            Some((least, most)) => (number(least.trim())?, number(most.trim())?),
            None => (number(text)?, number(text)?),
        };
        if least <= most { Ok(Self { least, most }) } else { Err(NotBounds) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let rows = [
            ("4", Some((4, 4, "4"))),
            ("2..8", Some((2, 8, "2..8"))),
            ("2 .. 8", Some((2, 8, "2..8"))),
            ("3..3", Some((3, 3, "3"))),
            ("0..4", Some((0, 4, "0..4"))),
            ("8..2", None),
            ("2...8", None),
            ("2-8", None),
            ("..8", None),
            ("2..", None),
            ("+2..8", None),
            ("99999999999", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let read = text.parse::<Bounds>().ok();
            let shown = read.map(|bounds| (bounds.least, bounds.most, bounds.to_string()));
            assert_eq!(shown, expected.map(|(least, most, text)| (least, most, text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn guesses() {
        let rows = [
            ("8..2", Some("the smaller number comes first: 2..8")),
            ("2-8", Some("write 2..8")),
            ("2...8", Some("write 2..8")),
            ("2,8", Some("write 2..8")),
            ("0..0", None),
            ("many", None),
            ("1.5.2", None),
        ];
        for (text, expected) in rows {
            assert_eq!(Bounds::guess(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn shifts() {
        let bounds = Bounds { least: 1, most: 3 };
        assert_eq!(bounds.raised(), Bounds { least: 2, most: 4 });
        assert_eq!(bounds.lowered(), Bounds { least: 1, most: 2 });
        assert_eq!(Bounds::exactly(1).lowered(), Bounds::exactly(1));
        assert_eq!(bounds.clamp(0), 1);
        let bounds = Bounds { least: 0, most: 1 };
        assert_eq!(bounds.raised(), Bounds { least: 0, most: 2 });
        assert_eq!((bounds.lowered(), bounds.clamp(0), bounds.at_the_start()), (bounds, 0, 1));
        assert!(bounds.is_within(1) && !bounds.raised().is_within(1) && !Bounds::exactly(0).is_within(1));
    }
}
