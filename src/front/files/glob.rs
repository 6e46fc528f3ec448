//! Patterns of file names: `*` stands for any characters, `?` for one. Pure.

/// Whether the pattern fits the path, which begins with a slash; a pattern without a slash only has to fit the last name.
pub fn matches_path(pattern: &[u8], path: &[u8]) -> bool {
    if pattern.contains(&b'/') {
        return matches(pattern, path);
    }
    matches(pattern, path.rsplit(|byte| *byte == b'/').next().unwrap_or(path))
}

/// Whether the pattern fits the whole text. `*` fits slashes too. Takes at most the product of both lengths in steps.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    // The last star, and how much of the text it stands for at most so far.
    let mut star = None;
    while place < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || *wanted == text[place] => {
                at += 1;
                place += 1;
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                at = after + 1;
                place = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_what_they_fit() {
        let cases = [
            ("*.css", "/static/a.css", true),
            ("*.css", "/static/a.css.map", false),
            ("*.css", "/a.css/b", false),
            ("*.CSS", "/a.css", false),
            ("a?.js", "/x/ab.js", true),
            ("a?.js", "/x/a.js", false),
            ("*", "/anything", true),
            ("", "/", true),
            ("", "/a", false),
            ("index.html", "/deep/down/index.html", true),
            ("/static/*", "/static/a/b.css", true),
            ("/static/*", "/static", false),
            ("/static/*.css", "/static/a/b.css", true),
            ("/*/b.css", "/a/b.css", true),
            ("*/img/*", "/a/img/b/c.png", true),
            ("*a*b*c", "/xaxbxc", true),
            ("*a*b*c", "/xaxcxb", false),
            ("**.**", "/a.b", true),
            ("*.min.*", "/jquery.min.js", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches_path(pattern.as_bytes(), path.as_bytes()), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        let (pattern, text) = ("*a".repeat(200), "a".repeat(2000) + "b");
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    }
}
