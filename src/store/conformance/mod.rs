//! What every [`Store`] does, as tests that run on each implementation.
//!
//! A test is a function of a store that is empty. [`suite!`] makes a test function of each for one
//! implementation, given a function that opens an empty store and something that keeps its files.

pub(crate) mod access;
pub(crate) mod answers;
pub(crate) mod attributes;
pub(crate) mod audit;
pub(crate) mod batches;
pub(crate) mod cells;
pub(crate) mod commits;
pub(crate) mod events;
pub(crate) mod exclusions;
pub(crate) mod gateways;
pub(crate) mod groups;
pub(crate) mod home_events;
pub(crate) mod homes;
pub(crate) mod inventory;
pub(crate) mod phases;
pub(crate) mod products;
pub(crate) mod reach;
pub(crate) mod rollouts;
pub(crate) mod series;
pub(crate) mod sites;
pub(crate) mod soaks;
pub(crate) mod starts;
pub(crate) mod targets;
pub(crate) mod task_packages;
pub(crate) mod tasks;
pub(crate) mod tenancy;
pub(crate) mod traffic;
pub(crate) mod users;

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{
    AddedDevice, BatchId, Exclude, NewDevice, NewPackage, NewTask, Origin, PackageRecord, Papers,
    Selection, Store, TaskRecord, UpgradeState,
};
use crate::{
    clock::UtcMillis,
    ledger::{
        Announced, AttributesChange, Binding, Change, Failure, Lwm2mVersion, Outcome, QueueMode,
        Registration, RetryPolicy, Stage, StageChange, Success, TaskId, UpgradeId,
    },
    package::{PcpOffer, Segmentation, Version},
    task::{PackageRules, TaskRules},
};

/// The time at which the tests begin.
const T0: UtcMillis = UtcMillis(1_800_000_000_000);

fn t(seconds: u64) -> UtcMillis {
    T0 + Duration::from_secs(seconds)
}

/// A number that no commit had.
pub(crate) fn next_batch() -> BatchId {
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    BatchId::first_of(WRITERS.fetch_add(1, Relaxed))
}

/// Makes a test of each function of the suite.
macro_rules! suite {
    ($open:path: $($room:ident { $($test:ident),* $(,)? })*) => {
        $(mod $room {
            $(#[tokio::test]
            async fn $test() {
                let (store, _files) = $open().await;
                $crate::store::conformance::$room::$test(&store).await;
            })*
        })*
    };
}

/// Makes a test module of the whole suite.
macro_rules! whole_suite {
    ($open:path) => {
        $crate::store::conformance::suite! { $open:
            access {
                a_token_is_found_by_its_hash_until_it_is_revoked,
                a_token_ends_at_its_time,
                tokens_have_names_of_their_own_and_are_listed_in_pages,
                the_use_of_a_token_is_noted,
                an_approver_of_some_devices_does_not_answer_for_all,
                there_are_so_many_tokens_at_most,
                some_devices_are_let_through,
                tasks_are_listed_by_the_devices_they_were_made_for,
            }
            users {
                users_have_names_of_their_own,
                grants_and_a_password_are_changed_together,
                a_session_ends_at_its_end_and_when_it_is_not_used,
                a_new_password_ends_sessions,
                a_user_has_so_many_sessions_at_most,
                a_disabled_user_is_kept_out,
                a_second_factor_counts_once_it_is_confirmed,
                what_is_shown_as_the_second_factor_is_good_once,
                who_comes_by_an_identity_is_one_user,
                what_an_identity_is_granted_is_taken_away,
                a_user_is_changed_as_it_was_seen_or_not_at_all,
            }
            answers {
                a_key_is_taken_once_and_answered_as_at_first,
                a_key_that_is_given_back_is_new,
                a_key_is_forgotten_after_a_day,
                a_key_is_its_caller_s,
            }
            attributes {
                devices_bring_their_attributes,
                many_devices_bring_tags,
                a_device_has_so_many_tags_at_most,
                attributes_are_changed_and_taken_away,
                a_device_added_again_has_no_attributes_of_before,
            }
            audit {
                rows_are_a_chain,
                a_change_on_somebodys_behalf_leaves_a_row_with_it,
                what_is_written_in_parts_is_one_row,
                what_goes_on_without_its_caller_is_one_row,
                a_change_that_finds_nothing_leaves_no_row,
                the_last_part_of_a_list_is_no_device_of_its_own,
                an_open_act_is_ended_once,
                rows_are_listed_by_what_they_say,
                old_rows_go_behind_a_checkpoint,
            }
            exclusions {
                exclusions_begin_and_end,
                new_tasks_leave_excluded_devices_out,
                what_waits_on_an_excluded_device_does_not_begin,
                what_runs_on_an_excluded_device_goes_on_and_is_not_tried_again,
                an_attempt_that_begins_after_its_device_was_excluded_is_refused,
            }
            batches {
                a_batch_is_the_same_as_its_changes_one_by_one,
                memory_does_what_the_database_does,
            }
            gateways {
                an_order_names_the_limit_of_its_gateways_product,
                the_limit_of_one_gateway_is_kept_and_its_changes_seen_among_those_of_sites,
                devices_are_added_behind_gateways,
                a_gateway_tells_who_is_behind_it,
                a_device_is_given_another_gateway,
                a_gateway_has_so_many_devices_at_most,
                what_a_gateway_says_of_its_devices_comes_behind_an_operators_word,
            }
            cells {
                rules_are_kept_and_their_changes_seen_in_order,
                rules_change_all_or_none,
                closed_cells_are_listed_apart,
                a_cell_tells_who_has_a_slot_and_what_became_of_upgrades,
            }
            commits {
                a_registration_adds_an_unknown_device,
                a_registration_comes_back_after_a_restart,
                what_a_device_announces_stays_until_it_announces_anew,
                a_removed_device_does_not_come_back_by_itself,
                reports_are_kept_and_unknown_devices_ignored,
                evidence_comes_back_until_the_device_restarts,
                a_stage_comes_back_with_all_it_needs,
                devices_whose_upgrade_runs_come_back_first,
                the_same_changes_twice_are_the_same_as_once,
                a_late_end_of_an_older_attempt_changes_nothing,
                a_failure_with_another_attempt_waits_for_it,
                what_nobody_has_any_more_begins_again_if_somebody_wants_it,
                no_attempt_follows_in_a_stopped_task,
                no_attempt_follows_on_a_removed_device,
                the_end_of_the_last_upgrade_ends_the_task,
                a_stopped_upgrade_is_refused_when_it_begins_late,
                progress_belongs_to_its_attempt,
                how_a_device_was_kept_awake_is_known_to_all_attempts,
                what_was_learnt_last_of_each_subject_comes_back,
                cells_count_holders_and_waiters_and_keep_their_peaks,
                the_queue_of_a_cell_is_told_in_the_order_of_waiting,
                hundreds_of_changes_in_one_commit,
                values_are_kept_under_their_keys,
            }
            events {
                every_outcome_is_told_once,
                a_cancelled_task_and_a_removed_device_are_told,
                events_are_read_in_order_and_by_task,
                webhooks_get_what_concerns_them,
                a_task_brings_its_webhook,
                a_delivery_is_tried_until_it_ends,
                a_webhook_fails_from_its_first_failure_to_its_next_success,
                a_backlog_is_given_up_and_replayed,
                a_replay_begins_anew,
                old_events_are_forgotten,
                a_task_s_webhook_goes_some_time_after_the_task,
                so_many_webhooks_are_told_the_same,
                a_webhook_goes_with_its_deliveries,
            }
            home_events {
                what_is_told_names_the_home_of_that_time,
                the_beginning_at_home_is_told_once,
                a_home_is_asked_for_its_word_once,
                a_start_that_waits_over_a_weak_signal_is_told,
                a_start_that_waits_is_told_once_however_often_it_is_asked_for,
                what_ends_with_its_device_names_the_home_in_which_that_was,
                a_home_that_a_device_joins_is_asked_for_what_waits_there,
                who_made_a_task_within_a_filter_is_told_nothing_of_homes,
                each_home_is_told_once_that_it_sees_an_offer,
                an_offer_that_more_homes_see_is_told_to_the_others,
                offers_that_are_due_take_turns,
                only_homes_are_told_of_an_offer_that_it_is_for,
            }
            targets {
                a_task_leaves_out_whom_it_excludes,
                whom_a_task_excludes_has_to_be_known,
                a_group_stays_while_a_task_leaves_it_out,
                new_devices_join_a_running_task,
                devices_join_that_come_to_fit_and_stay_when_they_do_not,
                whom_a_task_excludes_does_not_join,
                who_joins_is_in_the_phase_that_runs,
                a_phase_that_nobody_is_in_waits_for_who_joins,
                who_joins_is_in_the_lot_of_its_zone,
                a_task_that_devices_join_ends_when_none_may_any_more,
                whether_devices_join_can_be_changed,
            }
            groups {
                a_group_is_a_list_or_a_filter,
                a_group_is_changed_as_its_kind_allows,
                groups_have_names_of_their_own_and_known_devices,
                a_removed_device_leaves_its_groups,
                a_task_selects_by_filter_or_group,
                a_task_that_starts_later_begins_at_its_time_whomever_it_is_for,
                a_group_stays_while_a_task_uses_it,
            }
            homes {
                a_home_is_put_as_it_is_to_be_and_the_same_again_changes_nothing,
                a_device_is_in_one_home_of_its_tenant,
                a_user_is_in_homes_as_something,
                an_offer_has_a_standing_task_that_takes_up_what_is_started,
                what_may_not_start_is_refused_and_leaves_nothing,
                a_weak_signal_is_asked_about_and_waits_for_ten_minutes,
                what_was_started_is_cancelled_until_its_transfer_begins,
                several_versions_are_started_one_after_the_other,
                who_started_what_is_forgotten_after_its_time,
                devices_whose_switch_is_on_begin_outside_quiet_hours,
                all_of_a_user_is_told_and_deleted,
                a_battery_has_to_be_charged_as_the_tag_says,
            }
            starts {
                what_follows_waits_until_the_one_before_it_has_succeeded,
                what_follows_ends_with_the_one_before_it,
                the_standing_task_of_an_offer_is_changed_but_for_who_joins,
                of_a_device_that_upgraded_later_no_failure_is_taken_up_again,
                by_itself_a_device_upgrades_to_what_is_newest_and_never_back,
                an_offer_that_begins_nothing_keeps_no_other_from_beginning,
                by_itself_nothing_begins_that_may_not_any_more,
                what_waits_ends_when_its_device_is_put_out_of_its_home,
                each_home_begins_when_it_is_not_quiet_there,
                devices_that_begin_by_themselves_are_looked_at_in_parts,
                nothing_begins_by_itself_of_an_offer_that_was_withdrawn,
                by_itself_a_weak_signal_begins_nothing_and_asks_nobody,
                what_was_cancelled_at_home_does_not_begin_its_transfer,
                what_is_started_behind_a_cancellation_begins_after_it,
            }
            inventory {
                the_same_package_again_is_the_same_row,
                other_content_supersedes_the_older_package,
                other_content_is_refused_while_a_task_uses_the_older,
                a_check_code_stands_for_one_content_in_one_cut,
                a_package_may_be_none_of_pcps,
                packages_of_two_components_have_the_same_version,
                the_md5_of_packages_from_before_is_written_down_once,
                a_package_in_use_is_not_deleted,
                a_deleted_package_stays_for_ended_tasks,
                shared_content_is_reported_when_a_package_is_deleted,
                packages_are_listed_newest_first_in_pages,
                the_package_before_another_is_the_newest_of_its_product,
                devices_are_added_once,
                ten_thousand_devices_are_added_in_one_call,
                devices_are_listed_by_filter_in_pages,
                devices_are_listed_and_counted_in_the_operators_language,
                changes_of_devices_are_seen_in_order,
                when_a_device_wakes_up_is_learnt_anew_with_another_product,
                a_removed_device_is_kept_until_it_is_forgotten,
                a_device_added_again_begins_anew,
                who_came_by_himself_and_is_gone_is_removed,
                devices_bring_their_keys,
                keys_are_changed_and_taken_away,
                devices_bring_what_they_show_over_mqtt,
                what_a_device_speaks_is_changed_while_nothing_runs,
            }
            phases {
                devices_are_dealt_out_and_begin_phase_by_phase,
                devices_are_dealt_out_by_their_zones,
                a_phase_that_comes_true_is_followed_by_the_next,
                too_many_failures_pause_a_task_until_it_is_resumed,
                too_many_failures_stop_a_task,
                what_fails_again_after_a_retry_counts_anew,
                a_phase_that_has_not_come_true_runs_on_with_a_retry,
                a_paused_task_begins_nothing_and_what_runs_goes_on,
                a_task_begins_when_it_is_approved,
                an_approval_is_of_what_was_approved,
                who_has_changed_what_is_approved_is_known,
                a_task_that_is_refused_is_stopped,
                what_has_not_begun_in_time_expires,
                what_is_taken_back_keeps_its_turn_and_its_attempts,
                nothing_taken_back_begins_again_in_a_stopped_task,
                what_has_failed_is_taken_up_again,
                one_upgrade_is_tried_again,
                one_upgrade_is_passed_over,
                one_upgrade_that_is_retried_or_passed_over_leaves_its_task_as_it_stands,
                an_upgrade_waits_until_the_owner_of_its_device_confirms_it,
                an_owner_confirms_for_a_time_changes_it_and_takes_it_back,
                what_is_downloading_goes_on_after_a_soft_stop,
                rules_are_changed_by_whoever_has_seen_them,
                failures_are_tried_again_for_the_reasons_of_the_task,
                a_phase_is_judged_anew_by_what_is_tried_again,
                a_phase_is_not_skipped_by_who_comes_too_late,
                a_last_time_that_was_put_off_is_kept_to,
            }
            series {
                a_task_has_so_many_points_at_most,
                a_cell_has_a_point_for_each_hour_of_a_week,
                a_cell_has_the_last_changes_of_its_limit,
                a_device_has_its_last_measurements,
            }
            sites {
                limits_of_sites_are_kept_and_their_changes_seen_in_order,
                an_order_names_the_site_of_its_device,
            }
            products {
                keys_and_rules_of_products_are_kept,
                products_are_taken_in_once,
                nothing_is_taken_in_after_a_start_without_products,
                settings_of_products_are_changed_by_whoever_has_seen_them,
                a_product_goes_when_nothing_names_it_and_its_keys_go_with_it,
                products_are_listed_by_their_names,
                so_many_products_are_there_at_most,
                so_many_keys_has_a_product_at_most,
                a_package_is_taken_with_a_signature_where_one_is_required,
                no_new_task_takes_a_package_whose_key_was_removed,
                a_finished_task_serves_nothing_again_that_nobody_vouches_for,
                papers_are_changed_by_whoever_has_seen_them,
                a_file_of_papers_is_unused_when_nobody_refers_to_it,
            }
            reach {
                each_device_tells_whether_it_was_reached_and_why_not,
                devices_are_looked_at_in_pages_product_by_product,
                a_task_with_a_mending_package_among_several_counts_before_it_is_served,
            }
            rollouts {
                the_longest_due_begins_first_and_one_per_device,
                busy_devices_do_not_hold_up_others,
                heads_tell_what_is_due_first,
                a_task_that_starts_nothing_holds_no_device,
                a_higher_priority_begins_first_however_much_else_is_due,
                a_scheduled_task_begins_at_its_time,
                the_next_due_time_is_in_the_future,
                upgrades_of_stopped_tasks_and_removed_devices_are_to_be_stopped,
            }
            soaks {
                a_success_counts_when_the_device_tells_the_version_after_its_soak,
                a_device_that_falls_back_or_is_not_heard_is_not_in_health,
                a_soak_is_passed_over_and_holds_its_phase_no_more,
                a_success_with_a_package_for_a_component_counts_at_once,
            }
            task_packages {
                several_packages_are_kept_with_whom_they_are_for,
                packages_that_do_not_go_together_are_refused,
                overlaps_are_of_any_of_several_packages,
                what_a_task_names_is_neither_deleted_nor_superseded,
                what_a_device_is_served_is_known_after_a_restart,
                devices_that_are_skipped_are_counted_apart,
                a_deleted_package_of_several_stays_for_its_task,
                a_soak_asks_for_the_version_of_what_was_served,
            }
            tasks {
                a_task_selects_by_list_by_product_or_all,
                a_list_with_devices_that_do_not_fit_is_refused,
                a_package_that_is_not_current_is_refused,
                nobody_to_upgrade_is_refused,
                stopping_cancels_what_waits_and_keeps_what_runs,
                a_scheduled_task_is_stopped_at_once,
                a_finished_task_cannot_be_stopped,
                an_upgrade_that_waits_is_cancelled_at_once,
                an_upgrade_that_runs_is_cancelled_and_not_tried_again,
                an_upgrade_that_has_ended_cannot_be_cancelled,
                a_running_task_cannot_be_deleted,
                the_newest_time_is_that_of_what_was_written_last,
                tasks_are_listed_newest_first_with_counts,
                upgrades_are_listed_by_state_in_pages,
                an_upgrade_explains_itself,
                a_device_s_upgrades_are_listed_newest_first,
                other_tasks_with_the_same_devices_and_package_are_told,
                several_packages_are_planned_for_the_same_devices,
                upgrades_are_listed_newest_first_of_all_or_of_a_cell,
            }
            tenancy {
                there_is_always_one_tenant,
                a_tenant_is_added_renamed_and_deleted,
                a_tenant_with_anything_is_not_deleted,
                what_has_the_same_name_belongs_to_two,
                names_are_unique_across_tenants,
                a_device_is_given_to_another_tenant_when_nothing_runs,
                nothing_is_taken_up_again_on_a_device_of_another_tenant,
                a_device_is_changed_and_removed_by_those_for_whom_it_is_there,
                upgrades_and_exclusions_are_changed_by_those_for_whom_the_device_is_there,
                groups_have_devices_of_their_tenant,
                a_tenant_has_its_share_of_what_there_is,
                tasks_are_listed_by_their_tenants,
                webhooks_are_told_what_is_their_tenant_s,
                rows_of_the_audit_log_are_listed_by_their_tenants,
            }
            traffic {
                what_upgrades_cost_is_summed_by_upgrade_task_and_cell,
                what_a_device_spends_counts_in_the_month_where_it_is,
                a_device_without_enough_left_is_put_off_until_it_has,
                another_budget_is_looked_at_at_once,
                nothing_is_put_off_by_a_budget_that_was_changed_meanwhile,
            }
        }
    };
}

pub(super) use {suite, whole_suite};

/// A store with helpers to say what a test is about and nothing else.
struct World<'s, S: Store> {
    store: &'s S,
}

impl<'s, S: Store> World<'s, S> {
    fn new(store: &'s S) -> Self {
        Self { store }
    }

    /// A store with package V2 of product `p` and devices `d0`, `d1`, …
    async fn with_devices(store: &'s S, devices: usize) -> (Self, PackageRecord) {
        let world = Self::new(store);
        let package = world.package("p", "V2", 1).await;
        let names: Vec<String> = (0..devices).map(|i| format!("d{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        world.devices("p", &names).await;
        (world, package)
    }

    /// The same, with a running task for all of them.
    async fn with_task(store: &'s S, devices: usize, attempts: u32) -> (Self, TaskRecord) {
        let (world, package) = Self::with_devices(store, devices).await;
        let mut new = new_task(&package, Selection::All);
        new.retry.attempts = attempts;
        let task = store.create_task(&new).await.unwrap();
        (world, task)
    }

    async fn package(&self, product: &str, version: &str, content: u8) -> PackageRecord {
        self.store
            .insert_package(&new_package(product, version, content))
            .await
            .unwrap()
            .record
    }

    async fn devices(&self, product: &str, endpoints: &[&str]) -> Vec<AddedDevice> {
        let devices: Vec<NewDevice> = endpoints
            .iter()
            .map(|endpoint| NewDevice {
                attributes: AttributesChange::default(),
                psk: None,
                mqtt: None,
                endpoint: (*endpoint).to_owned(),
                product: product.to_owned(),
                via: None,
            })
            .collect();
        self.store.add_devices(&devices, T0).await.unwrap()
    }

    /// Twice, as whoever does not hear that it was committed.
    async fn commit(&self, changes: &[Change]) {
        let batch = next_batch();
        for _ in 0..2 {
            let report = self.store.commit(batch, changes).await.unwrap();
            assert_eq!(report.refused, []);
        }
    }

    /// The upgrades of a task, in order.
    async fn ids(&self, task: TaskId) -> Vec<UpgradeId> {
        let page = self.store.upgrades(task, None, None, 1_000).await.unwrap();
        page.items.iter().map(|upgrade| upgrade.id).collect()
    }

    async fn state_of(&self, upgrade: UpgradeId) -> UpgradeState {
        self.store
            .upgrade(upgrade)
            .await
            .unwrap()
            .unwrap()
            .upgrade
            .state
    }
}

/// A task for three devices, that begins at once.
pub(crate) async fn task_for_three(store: &impl Store) -> TaskId {
    World::with_task(store, 3, 0).await.1.id
}

pub(crate) fn new_package(product: &str, version: &str, content: u8) -> NewPackage {
    NewPackage {
        product: product.to_owned(),
        version: Version::new(version).unwrap(),
        component: None,
        sha256: hex::encode([content; 32]),
        crc: 0xBE00 | u16::from(content),
        size_bytes: 1_200,
        md5: None,
        pcp: Some(PcpOffer {
            version: pcp::Version::new(version).unwrap(),
            check_code: 0xBE00 | u16::from(content),
            segmentation: Segmentation::choose(1_200, None, false).unwrap(),
        }),
        created_at: T0,
        papers: Papers::default(),
    }
}

pub(crate) fn new_task(package: &PackageRecord, selection: Selection) -> NewTask {
    NewTask {
        name: "night".to_owned(),
        package: package.id,
        packages: PackageRules::default(),
        selection,
        exclude: Exclude::default(),
        start_at: None,
        retry: RetryPolicy {
            attempts: 0,
            interval_s: 300,
            ..RetryPolicy::default()
        },
        rules: TaskRules::default(),
        webhook: None,
        created_at: T0,
        origin: Origin::default(),
    }
}

fn list(endpoints: &[&str]) -> Selection {
    Selection::Devices(endpoints.iter().map(|e| (*e).to_owned()).collect())
}

fn registered(endpoint: &str, at: UtcMillis) -> Change {
    Change::Registered {
        endpoint: endpoint.to_owned(),
        registration: Registration {
            location: "5a3f".to_owned(),
            peer: "192.0.2.7:5683"
                .parse::<std::net::SocketAddr>()
                .unwrap()
                .into(),
            lifetime_s: 86_400,
            expires_at: at + Duration::from_hours(24),
            registered_at: at,
            message_id: Some(4_711),
            queue_mode: QueueMode::On,
            lwm2m_version: Some(Lwm2mVersion::V1_1),
            binding: Binding::parse(b"US"),
            announced: Some(announced("</3/0>,</4>;ver=1.3,</19/0>", Some("/lwm2m")).into()),
        },
        wake_ups: None,
        at,
    }
}

fn announced(objects: &str, root_path: Option<&str>) -> Announced {
    Announced {
        objects: objects.to_owned(),
        root_path: root_path.map(ToOwned::to_owned),
    }
}

fn stage_change(stage: Stage, at: UtcMillis) -> StageChange {
    let cell = (stage >= Stage::WaitingForSlot).then_some(51_234);
    StageChange {
        stage,
        entered_at: at,
        deadline_at: at + Duration::from_mins(3),
        queued_at: cell.map(|_| at),
        slot_deadline_at: cell.map(|_| at + Duration::from_hours(7 * 24)),
        cell,
        cell_limit: cell.map(|_| 10),
        confirmed: stage == Stage::Executing,
        download_errors: if stage == Stage::Downloading { 3 } else { 0 },
    }
}

fn stage(upgrade: UpgradeId, attempt: u32, stage: Stage, at: UtcMillis) -> Change {
    Change::Stage {
        upgrade,
        attempt,
        change: stage_change(stage, at),
        line: Some(crate::ledger::Line::sentence(&format!(
            "entered {}",
            stage.name()
        ))),
        at,
    }
}

fn ended(
    upgrade: UpgradeId,
    task: TaskId,
    attempt: u32,
    outcome: Outcome,
    retry_at: Option<UtcMillis>,
    at: UtcMillis,
) -> Change {
    Change::Ended {
        upgrade,
        task,
        attempt,
        facts: Box::new(outcome.facts()),
        outcome,
        retry_at,
        at,
    }
}

const UPGRADED: Outcome = Outcome::Succeeded(Success::Upgraded);
const NOT_HEARD: Outcome = Outcome::Failed(Failure::DeviceNotHeard);
