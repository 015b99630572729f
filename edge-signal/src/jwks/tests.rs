use super::*;

#[test]
fn a_server_that_is_away_is_asked_less_and_less_often_but_never_seldom() {
    let interval = Duration::from_mins(5);
    assert_eq!(pause_after(0, interval), interval);
    assert_eq!(pause_after(1, interval), MIN_PAUSE);
    assert_eq!(pause_after(2, interval), 2 * MIN_PAUSE);
    for failures in 5..=u32::MAX.ilog2() {
        assert_eq!(pause_after(1 << failures, interval), MAX_PAUSE);
    }
    assert_eq!(pause_after(9, Duration::from_secs(2)), Duration::from_secs(2), "no less often than when it is there");
}
