//! Everything live, page by page.

use std::collections::BTreeSet;

use super::super::live::PAGE_TRANSPORTS;
use super::*;

/// All pages of a survey, with `between` two of them.
fn pages(rig: &Rig, mut between: impl FnMut()) -> Vec<Page> {
    let mut pages = vec![rig.control.survey(Cursor::parse("").expect("the beginning"))];
    while let Some(next) = pages.last().and_then(|page| page.next) {
        between();
        pages.push(rig.control.survey(Cursor::parse(&next.to_string()).expect("as it was given")));
    }
    pages
}

fn publications(pages: &[Page]) -> Vec<String> {
    pages.iter().flat_map(|page| &page.live.publications).map(|live| live.publication_id.clone()).collect()
}

#[test]
fn an_empty_node_has_one_empty_page() {
    let pages = pages(&Rig::new(), || ());
    assert!(pages.len() == 1 && pages[0].live.publications.is_empty() && pages[0].live.subscriptions.is_empty());
}

#[test]
fn a_survey_names_everything_with_what_a_record_needs() {
    let rig = Rig::new();
    let source = rig.published("ann");
    let subscriber = rig.subscribed("bob", &source);
    let pages = pages(&rig, || ());
    let (publications, subscriptions) = (&pages[0].live.publications, &pages[0].live.subscriptions);
    assert_eq!((pages.len(), publications.len(), subscriptions.len()), (1, 1, 1));
    let live = &publications[0];
    assert_eq!((live.room_id.as_str(), live.client_id.as_str(), &live.transport_id), ("room", "ann", &source));
    assert_eq!((&live.publication_id, &live.metadata[..]), (&source, &b"{}"[..]));
    let live = &subscriptions[0];
    assert_eq!((live.room_id.as_str(), live.client_id.as_str(), &live.transport_id), ("room", "bob", &subscriber));
    assert_eq!((&live.publication_id, live.subscription_id.is_empty()), (&source, false));
}

#[test]
fn what_lives_all_the_time_is_in_exactly_one_page_whatever_comes_and_goes() {
    let rig = Rig::with_capacity(4 * PAGE_TRANSPORTS);
    let name = |number: usize| format!("client{number}");
    let stays: BTreeSet<String> = (0..=(2 * PAGE_TRANSPORTS)).map(|number| rig.published(&name(number))).collect();
    let goes = rig.published("goes");
    let mut rounds = 0;
    let pages = pages(&rig, || {
        rounds += 1;
        rig.published(&format!("late{rounds}"));
        rig.control.close_transports(&[TransportId::new(&goes).expect("valid")]);
    });
    assert_eq!(pages.len(), 3);
    let found = publications(&pages);
    assert_eq!(found.iter().filter(|id| stays.contains(*id)).count(), stays.len());
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "each once");
}

#[test]
fn pages_are_bounded_in_bytes_too() {
    let rig = Rig::with_capacity(300);
    for number in 0..200 {
        let mut request = publish(&format!("ann{number}"), &format!("ann{number}#1"), &[AUDIO]);
        request.publications[0].metadata = vec![b'x'; 16 * 1024];
        rig.negotiate(request).expect("published");
        rig.commands();
    }
    let pages = pages(&rig, || ());
    let bytes = |page: &Page| page.live.publications.iter().map(|live| live.metadata.len()).sum::<usize>();
    assert!(pages.len() == 4 && pages.iter().all(|page| bytes(page) < 1_200_000), "{} pages", pages.len());
    assert_eq!(publications(&pages).len(), 200);
}

#[test]
fn what_is_no_cursor_is_refused() {
    for text in ["x", "-1", " ", "99999999999999999999", "1:2"] {
        assert_eq!(Cursor::parse(text), Err(NoCursor), "{text}");
    }
    let rig = Rig::new();
    rig.published("ann");
    let beyond = rig.control.survey(Cursor::parse(&u64::MAX.to_string()).expect("a number"));
    assert!(beyond.live.publications.is_empty() && beyond.next.is_none());
}

#[test]
fn new_metadata_is_what_is_told_from_then_on() {
    let rig = Rig::new();
    let source = rig.published("ann");
    let id = Mid::new(&source).expect("valid");
    rig.control.set_metadata(&id, metadata(b"muted").expect("short")).expect("it is there");
    let told = |rig: &Rig| pages(rig, || ())[0].live.publications[0].metadata.clone();
    assert_eq!(told(&rig), b"muted");
    rig.negotiate(publish("ann", &source, &[AUDIO, VIDEO])).expect("the same again");
    assert_eq!(told(&rig), b"muted", "a repeated call is not a new one");
    let unknown = rig.control.set_metadata(&Mid::new("nobody#1").expect("valid"), metadata(b"").expect("short"));
    assert!(matches!(unknown, Err(Refusal::NoPublication(_))), "{unknown:?}");
    assert!(metadata(&vec![0; 16 * 1024 + 1]).is_err());
}
