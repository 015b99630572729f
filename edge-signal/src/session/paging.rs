//! Lists in frames of bounded size.

use serde::Serialize;

/// Largest snapshot, in bytes of its entries (signalling contract, section 5). The rest of the frame, and a reader's own
/// limit of 128 KiB, are well above it.
pub(super) const SNAPSHOT_BYTES: usize = 100 * 1024;

/// A list cut in two.
#[derive(Debug)]
pub(super) struct Cut<T> {
    pub(super) fitting: Vec<T>,
    pub(super) left: Vec<T>,
}

/// Takes items while they fit into `budget` bytes of JSON, which is lessened by what they take. The first that does not
/// fit, and all after it, are left.
pub(super) fn fit<T: Serialize>(items: impl Iterator<Item = T>, budget: &mut usize) -> Cut<T> {
    let mut cut = Cut { fitting: Vec::new(), left: Vec::new() };
    for item in items {
        let size = if cut.left.is_empty() { size_of_json(&item) + 1 } else { usize::MAX };
        match budget.checked_sub(size) {
            Some(rest) => {
                *budget = rest;
                cut.fitting.push(item);
            }
            None => cut.left.push(item),
        }
    }
    cut
}

fn size_of_json(item: &impl Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, item).expect("invariant: entries of answers have text keys only");
    count.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_is_kept_when_a_large_item_stops_the_list() {
        let mut budget = 20;
        let cut = fit(["aaa", "this one is too long for it", "b"].into_iter(), &mut budget);
        assert_eq!((cut.fitting, cut.left), (vec!["aaa"], vec!["this one is too long for it", "b"]));
        assert_eq!(budget, 14);
    }

    proptest! {
        #[test]
        fn what_fits_is_within_the_budget_and_nothing_is_lost(items in prop::collection::vec(".{0,30}", 0..40), budget in 0usize..400) {
            let mut rest = budget;
            let cut = fit(items.iter(), &mut rest);
            let json = serde_json::to_string(&cut.fitting).expect("JSON");
            prop_assert!(cut.fitting.is_empty() || json.len() <= budget + 1);
            let all: Vec<&String> = cut.fitting.into_iter().chain(cut.left).collect();
            prop_assert_eq!(all, items.iter().collect::<Vec<_>>());
        }
    }
}
