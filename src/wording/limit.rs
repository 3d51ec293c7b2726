//! Why the limit of a cell has changed.

/// Why a cell's limit has changed as it is crowded, or is so no more: from so many at once to so many, `None` where coverage alone
/// counts, when a KiB took so many percent of what it takes while few upgrade there.
pub fn limit_changed(before: Option<u32>, most: Option<u32>, percent: u64) -> String {
    let took = format!("a KiB took {percent} % of what it takes while few upgrade in the cell");
    match (before, most) {
        (None, Some(most)) => format!(
            "{took}: {most} devices at most may upgrade at once from now on, where coverage alone counted"
        ),
        (Some(before), Some(most)) if most < before => {
            format!(
                "{took}: {most} devices at most may upgrade at once from now on, no longer {before}"
            )
        }
        (_, Some(most)) => format!("{took}: one more device may upgrade at once, {most} in all"),
        (_, None) => format!("{took}: coverage alone counts again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_from_what_to_what_and_why() {
        let begins = limit_changed(None, Some(35), 420);
        assert!(begins.starts_with("a KiB took 420 %") && begins.contains("35 devices at most"));
        assert!(limit_changed(Some(35), Some(24), 500).ends_with("no longer 35"));
        assert!(limit_changed(Some(24), Some(25), 200).ends_with("25 in all"));
        assert!(limit_changed(Some(49), None, 120).ends_with("coverage alone counts again"));
    }
}
