//! Lists in frames of bounded size.

use serde::Serialize;

/// Largest snapshot, in bytes of its entries (signalling contract, section 5). The rest of the frame, and a reader's own
/// limit of 128 KiB, are well above it.
pub(super) const SNAPSHOT_BYTES: usize = 100 * 1024;

/// The beginning of a list.
#[derive(Debug)]
pub(super) struct Cut<T> {
    pub(super) fitting: Vec<T>,
    /// There was more.
    pub(super) is_cut: bool,
}

/// Takes items while they fit into `budget` bytes of JSON, which is lessened by what they take, up to the first that does not.
pub(super) fn fit<T: Serialize>(items: impl Iterator<Item = T>, budget: &mut usize) -> Cut<T> {
    let mut fitting = Vec::new();
    for item in items {
        let Some(rest) = budget.checked_sub(size_of_json(&item) + 1) else { return Cut { fitting, is_cut: true } };
        *budget = rest;
        fitting.push(item);
    }
    Cut { fitting, is_cut: false }
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
        assert_eq!((cut.fitting, cut.is_cut), (vec!["aaa"], true));
        assert_eq!(budget, 14);
    }

    proptest! {
        #[test]
        fn what_fits_is_within_the_budget_and_in_order(items in prop::collection::vec(".{0,30}", 0..40), budget in 0usize..400) {
            let mut rest = budget;
            let cut = fit(items.iter(), &mut rest);
            let json = serde_json::to_string(&cut.fitting).expect("JSON");
            prop_assert!(cut.fitting.is_empty() || json.len() <= budget + 1);
            prop_assert_eq!(cut.is_cut, cut.fitting.len() < items.len());
            prop_assert_eq!(&cut.fitting[..], &items.iter().collect::<Vec<_>>()[..cut.fitting.len()]);
        }
    }
}
