//! The contracts every room store and every node directory passes, as test suites any implementation can be run against.
//!
//! An implementation writes a [`Harness`] and calls [`room_store_contract!`](crate::room_store_contract), which makes one
//! test per case. Cases talk to the store through the trait only; time and failures come through the harness. A failed
//! expectation panics, as tests do.

mod faulty;
mod stage;

// The cases: what each shows is its name.
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod concurrency;
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod deeds;
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod directory;
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod faults;
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod following;
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod leases;
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod logs;
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod membership;
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod model;
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod ops;
#[allow(missing_docs, reason = "a case says by its name what it shows")]
pub mod streams;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

pub use self::{
    directory::DirectoryHarness,
    faulty::{Fault, FaultyRooms},
    stage::Stage,
};
use crate::{settings::RoomSettings, store::RoomStore};

/// What the suite needs of an implementation's tests.
#[async_trait]
pub trait Harness: Send + Sync + Sized + 'static {
    /// What the random histories take for a second. A harness whose clock is real takes less, but more than a call may last.
    const SECOND: Duration = Duration::from_secs(1);

    /// How many random histories are played. A harness whose clock is real takes few: each lasts some 200 of those seconds.
    const HISTORIES: u64 = 40;

    /// A store nobody else uses, with these settings.
    async fn fresh(settings: RoomSettings) -> Self;

    /// The store.
    fn store(&self) -> Arc<dyn RoomStore>;

    /// Lets this much time pass on the store's clock.
    async fn advance(&self, by: Duration);

    /// Lets the next call to the store fail so.
    fn inject(&self, fault: Fault);

    /// Keeps the store's contents as they are now, in place of what was kept before.
    async fn checkpoint(&self);

    /// Goes back to what was kept: writes since are lost.
    async fn lose_writes(&self);

    /// Loses everything.
    async fn forget_everything(&self);
}

/// Makes a test of each case of the contract for a [`Harness`]; the attributes are those of each test.
///
/// ```text
/// room_store::room_store_contract!(#[tokio::test(start_paused = true)] MyHarness);
/// ```
#[macro_export]
macro_rules! room_store_contract {
    ($(#[$attribute:meta])* $harness:ty) => {
        $crate::room_store_contract!(@cases [$(#[$attribute])*] $harness:
            membership::{
                the_first_joins_an_empty_room, the_second_sees_the_first, a_session_resumes_on_another_socket,
                a_peer_without_a_socket_resumes_without_a_session, the_newest_socket_wins_without_a_session,
                a_session_that_ended_does_not_take_over_silently, joining_twice_on_one_socket_is_once,
                leaving_ends_streams_first, leaving_twice_is_an_error, a_full_room_takes_no_more,
                too_many_rooms_are_refused, empty_rooms_do_not_count, rooms_are_apart, names_of_any_script_are_kept, pages_are_whole_and_in_order,
            }
            streams::{
                a_reservation_is_nobodys_business, a_stream_is_told_once_when_confirmed,
                ending_a_stream_ends_its_subscriptions,
                subscriptions_are_listed_by_node_in_parts, streams_are_ended_by_their_owner_only,
                ending_a_stream_twice_is_no_error, a_node_ends_only_what_it_carries, only_the_socket_a_session_is_on_can_mute, muting_is_told_when_it_changes_something,
                a_recording_is_told_when_it_begins_and_ends, what_is_recorded_from_its_beginning_is_told_so_with_the_stream,
                a_recording_of_what_is_not_there_is_an_error,
                subscriptions_need_a_confirmed_stream, ending_a_subscription_twice_is_no_error, ending_all_that_ended_with_a_stream_is_no_error,
                streams_meet_on_the_node_that_carries_the_room, limits_hold_for_each_peer, a_taken_id_is_refused,
                carriers_count_what_they_carry, broadcasts_reach_all_others_verbatim,
            }
            leases::{
                an_unseen_session_expires_at_its_ttl, frames_keep_a_session, a_closed_socket_leaves_the_grace,
                a_socket_closed_for_good_ends_what_is_still_on_it,
                a_stale_close_changes_nothing, a_refresh_overtaken_by_the_close_changes_nothing, an_edge_learns_which_sessions_are_gone_or_elsewhere,
                a_due_session_lives_until_expiry_is_asked_for, expiry_tells_streams_then_members_once, expiry_goes_on_in_bounded_steps,
                an_unconfirmed_reservation_is_dropped_silently, an_empty_room_is_forgotten_after_the_ttl,
                due_rooms_are_a_hint_that_stays, no_due_room_is_left_out, rooms_of_any_name_expire_and_keep_no_other_from_it,
            }
            logs::{
                positions_have_no_holes, what_was_missed_follows_a_resume, one_does_not_hear_oneself,
                what_was_said_before_a_session_is_not_told_to_it, too_long_a_gap_is_a_resync, another_epoch_is_a_resync, the_log_is_bounded_by_bytes_too, what_was_said_ends_with_the_last_member,
                the_log_is_read_in_parts, a_snapshot_is_true_at_its_position,
            }
            ops::{
                a_repeated_join_is_the_same_session, a_repeated_leave_is_no_error, a_repeated_publish_is_the_same_stream,
                a_repeated_subscribe_is_the_same_subscription, a_repeated_broadcast_is_said_once,
                an_op_is_good_for_one_kind_of_request, an_op_whose_stream_ended_is_spent,
                an_op_whose_reservation_was_given_back_is_free_again, ops_are_forgotten_after_the_ttl,
                ops_are_kept_for_the_ttl_and_further_ones_refused, broadcasts_take_no_ops_from_other_requests,
                a_broadcast_without_an_op_is_said_once_when_its_call_is_repeated, calls_repeated_as_they_are_do_nothing_twice,
            }
            following::{
                a_feed_brings_each_entry_once_in_order, a_slow_receiver_learns_that_it_lags,
                a_follower_that_lags_misses_nothing, a_superseded_socket_is_told, feeds_of_other_rooms_are_silent,
                a_dropped_feed_harms_nobody,
            }
            faults::{
                an_unreachable_store_does_nothing, a_lost_reply_is_repeated_safely, a_lost_request_is_repeated_safely,
                lost_writes_show_and_a_new_epoch_heals, a_store_that_lost_everything_is_told_again,
                a_room_of_many_members_with_streams_is_told_again, a_member_of_many_subscriptions_is_told_again,
                a_reassertion_changes_nothing_that_is_known, one_of_many_starts_the_epoch,
            }
            concurrency::{
                many_at_once_agree_with_the_log, one_uid_from_many_sockets_has_one_session,
                expiry_by_many_edges_happens_once,
            }
            deeds::{
                a_step_says_what_it_did, who_leaves_takes_streams_along_and_each_is_said, a_deed_is_where_its_entry_is,
                a_resume_says_nothing_and_a_takeover_both, a_repeated_call_says_nothing_more,
                a_reservation_that_is_dropped_says_nothing, what_a_node_ends_says_why, expiry_is_said_once_to_whoever_did_it,
                a_handle_says_what_is_done_by_it_only, what_is_put_back_is_said_as_that,
                what_was_lost_on_its_way_back_is_said_by_nobody,
            }
            model::{
                random_histories_agree_with_a_simple_model,
            }
        );
    };
    (@cases $attributes:tt $harness:ty: $($module:ident :: { $($case:ident),* $(,)? })*) => {
        $($(
            $crate::room_store_contract!(@case $attributes $harness: $module::$case);
        )*)*
    };
    (@case [$(#[$attribute:meta])*] $harness:ty: $module:ident::$case:ident) => {
        $(#[$attribute])*
        async fn $case() {
            $crate::contract::$module::$case::<$harness>().await;
        }
    };
}
