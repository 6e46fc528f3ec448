//! Pure: dictionaries of structured fields (RFC 9651 §3.2), as far as cache directives are made of them.

/// The value of one member; its parameters are read and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    Boolean(bool),
    Integer(i64),
    /// A string, a token, a decimal, bytes, a list: nothing that a directive here would have.
    Other,
}

/// Members in order; of a key that is given twice, the caller takes the last. `None` where anything is malformed: then
/// nothing of the field counts (RFC 9651 §4.2).
pub fn parse(text: &[u8]) -> Option<Vec<(&[u8], Value)>> {
    let mut reader = Reader(text);
    let mut members = Vec::new();
    reader.skip(b" ");
    while !reader.0.is_empty() {
        let key = reader.key()?;
        let value = if reader.takes(b'=') { reader.member()? } else { Value::Boolean(true) };
        reader.parameters()?;
        members.push((key, value));
        reader.skip(b" \t");
        if reader.0.is_empty() {
            break;
        }
        if !reader.takes(b',') {
            return None;
        }
        reader.skip(b" \t");
        if reader.0.is_empty() {
            return None;
        }
    }
    Some(members)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn skip(&mut self, bytes: &[u8]) {
        self.while_true(|byte| bytes.contains(&byte));
    }

    fn while_true(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !is_part(*byte)).unwrap_or(self.0.len());
        let (part, rest) = self.0.split_at(end);
        self.0 = rest;
        part
    }

    fn takes(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte == b'*';
        self.0.first().filter(|byte| is_first(**byte))?;
        Some(self.while_true(|byte| is_first(byte) || byte.is_ascii_digit() || b"_-.".contains(&byte)))
    }

    fn parameters(&mut self) -> Option<()> {
        while self.takes(b';') {
            self.skip(b" ");
            self.key()?;
            if self.takes(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn member(&mut self) -> Option<Value> {
        if !self.takes(b'(') {
            return self.item();
        }
        loop {
            self.skip(b" ");
            if self.takes(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
            // Items are apart from each other.
            self.0.first().filter(|byte| b" )".contains(byte))?;
        }
    }

    fn item(&mut self) -> Option<Value> {
        match *self.0.first()? {
            b'"' => self.string(),
            b':' => {
                self.takes(b':');
                self.while_true(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.takes(b':').then_some(Value::Other)
            }
            b'?' => {
                self.takes(b'?');
                if self.takes(b'1') {
                    return Some(Value::Boolean(true));
                }
                self.takes(b'0').then_some(Value::Boolean(false))
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.while_true(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
                Some(Value::Other)
            }
            _ => None,
        }
    }

    fn string(&mut self) -> Option<Value> {
        self.takes(b'"');
        loop {
            self.while_true(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\');
            if self.takes(b'"') {
                return Some(Value::Other);
            }
            if !self.takes(b'\\') || !(self.takes(b'"') || self.takes(b'\\')) {
                return None;
            }
        }
    }

    fn number(&mut self) -> Option<Value> {
        let is_negative = self.takes(b'-');
        let digits = self.while_true(|byte| byte.is_ascii_digit());
        if digits.is_empty() || digits.len() > 15 {
            return None;
        }
        if self.takes(b'.') {
            let fraction = self.while_true(|byte| byte.is_ascii_digit());
            return (digits.len() <= 12 && (1..=3).contains(&fraction.len())).then_some(Value::Other);
        }
        let number = digits.iter().fold(0, |number: i64, digit| number * 10 + i64::from(digit - b'0'));
        Some(Value::Integer(if is_negative { -number } else { number }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries() {
        let good: &[(&str, &[(&str, Value)])] = &[
            ("", &[]),
            ("a", &[("a", Value::Boolean(true))]),
            (" a=1,\tb=?0", &[("a", Value::Integer(1)), ("b", Value::Boolean(false))]),
            ("a;x;y=2, b=-5", &[("a", Value::Boolean(true)), ("b", Value::Integer(-5))]),
            ("a=\"x, \\\"y\\\"\"", &[("a", Value::Other)]),
            ("a=(1 \"b\" c);d", &[("a", Value::Other)]),
            ("a=1.5, b=:aGk=:, c=to/ken", &[("a", Value::Other), ("b", Value::Other), ("c", Value::Other)]),
        ];
        for (text, expected) in good {
            let expected: Vec<_> = expected.iter().map(|(key, value)| (key.as_bytes(), *value)).collect();
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
        for text in [
            "A",
            "a b",
            "a=",
            "a= 1",
            "a =1",
            "a,",
            ",a",
            "a=1,,b",
            "&&",
            "a=\"x",
            "a=(1",
            "a=(1\"b\")",
            "a=1.",
            "a=?2",
            "a=1234567890123456",
            "a;",
            "a=\"\\x\"",
            "a=:x",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
