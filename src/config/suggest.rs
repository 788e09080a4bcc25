//! "did you mean": the known word nearest to one that is not known.
//!
//! Distance is Damerau–Levenshtein in its restricted form: insertions, deletions,
//! replacements and swaps of neighbours, letters compared without case, `-` equal to `_`.

/// The known word nearest to `word`, if it is near enough to have been meant: a third of the
/// longer one's letters may differ.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    let scored = known.into_iter().filter_map(|candidate| {
        let other = fold(candidate);
        let longest = folded.len().max(other.len());
        let distance = distance(&folded, &other);
        let near = distance <= (longest / 3).max(1) && distance < longest;
        near.then_some((distance, candidate))
    });
    scored
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The help for an unknown word: the nearest one, or else the list of all.
pub fn help(word: &str, what: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(word, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    match known {
        [] => format!("there is no {what}"),
        _ => format!("known {what}s: {}", known.join(", ")),
    }
}

/// Longest word compared, in characters; of longer ones the head counts.
const LONGEST: usize = 64;

fn fold(word: &str) -> Vec<char> {
    let folded = word.chars().flat_map(char::to_lowercase);
    folded
        .map(|c| if c == '-' { '_' } else { c })
        .take(LONGEST)
        .collect()
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let replace = above[j] + usize::from(left != right);
            let mut best = replace.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *left == b[j - 1] && a[i - 1] == *right {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_not() {
        let known = ["listen", "framing", "max_message", "type"];
        let check = |word, near| assert_eq!(nearest(word, known), near, "{word}");
        check("lisen", Some("listen"));
        check("Listen", Some("listen"));
        check("lsiten", Some("listen"));
        check("max-message", Some("max_message"));
        check("tpye", Some("type"));
        check("x", None);
        check("address", None);
    }

    #[test]
    fn help_lists_all_when_nothing_is_near() {
        assert_eq!(
            help("sokcet", "source", &["socket", "http"]),
            "did you mean `socket`?"
        );
        assert_eq!(
            help("kafka", "source", &["socket", "http"]),
            "known sources: socket, http"
        );
    }
}
