use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{filter::Filter, tenant::TenantId};

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

fn narrowed(role: Role, text: &str) -> Grant {
    Grant {
        filter: Some(filter(text)),
        ..Grant::of(role)
    }
}

fn on(tenant: &str, grant: Grant) -> Grant {
    Grant {
        tenant: Tenants::One(tenant.parse().unwrap()),
        ..grant
    }
}

fn with(grants: &[Grant]) -> Caller {
    Caller::api_token(7, "import".to_owned(), grants.to_vec())
}

/// What each role is for, written down once more: whoever changes the table changes this too.
#[test]
fn each_role_permits_what_it_is_for_and_reads() {
    for role in Role::ALL {
        let own: &[Permission] = match role {
            Role::Viewer => &[],
            Role::Operator => &[Permission::Operate],
            Role::Approver => &[Permission::Approve],
            Role::Administrator => &[Permission::Administer, Permission::Audit],
            Role::Auditor => &[Permission::Audit],
        };
        for permission in Permission::ALL {
            let expected = matches!(
                permission,
                Permission::Open | Permission::Own | Permission::Read
            ) || own.contains(&permission);
            assert_eq!(
                role.permits(permission),
                expected,
                "{role:?} {permission:?}"
            );
        }
    }
}

#[test]
fn the_token_in_the_file_may_do_everything_on_everything() {
    let caller = Caller::admin_token();
    for operation in OPERATIONS {
        assert_eq!(caller.admit(Some(operation)), Ok(Scope::Whole));
    }
    assert_eq!(caller.who(), "admin-token");
    assert_eq!(with(&[]).who(), "token:7:import");
}

#[test]
fn operations_have_names_of_their_own_in_order() {
    let names: Vec<&str> = OPERATIONS.iter().map(|it| it.name).collect();
    let ordered: BTreeSet<&str> = names.iter().copied().collect();
    assert!(ordered.iter().eq(names.iter()), "{names:?}");
    assert_eq!(Operation::named("get_task").unwrap().name, "get_task");
    assert_eq!(Operation::named(""), None);
}

#[test]
fn what_is_not_granted_is_refused() {
    let operation = Operation::named("upload_package");
    let viewer = with(&[Grant::of(Role::Viewer)]);
    let needed = Refusal::Role(Permission::Operate);
    assert_eq!(viewer.admit(operation), Err(needed));
    assert_eq!(viewer.admit(None), Err(Refusal::Unlisted));
    assert_eq!(Caller::admin_token().admit(None), Err(Refusal::Unlisted));
    let some = with(&[narrowed(Role::Operator, "site==north")]);
    assert_eq!(some.admit(operation), Err(Refusal::Narrowed));
    // a role for all devices does not widen another one
    let both = [
        narrowed(Role::Operator, "site==north"),
        Grant::of(Role::Viewer),
    ];
    assert_eq!(with(&both).admit(operation), Err(Refusal::Narrowed));
    assert_eq!(with(&both).scope(Permission::Read), Some(Scope::Whole));
}

#[test]
fn several_grants_are_one_scope() {
    let grants = [
        narrowed(Role::Viewer, "site==north"),
        narrowed(Role::Operator, "site==south"),
        narrowed(Role::Approver, "site==south"),
    ];
    let caller = with(&grants);
    let read = caller.scope(Permission::Read).unwrap();
    let text = |scope: &Scope| scope.filter().unwrap().to_string();
    assert_eq!(text(&read), "site==north,site==south");
    let operate = caller.scope(Permission::Operate).unwrap();
    assert_eq!(text(&operate), "site==south");
    assert_eq!(caller.scope(Permission::Audit), None);
    let narrow = |given: Option<&str>| read.narrow(given.map(filter)).unwrap().to_string();
    assert_eq!(narrow(None), "site==north,site==south");
    assert_eq!(
        narrow(Some("version<V2,cell==1")),
        "(version<V2,cell==1);(site==north,site==south)"
    );
    assert_eq!(Scope::Whole.narrow(None), None);
}

#[test]
fn a_grant_on_a_tenant_is_for_what_is_the_tenant_s() {
    let acme = with(&[on("acme", Grant::of(Role::Administrator))]);
    assert_eq!(acme.tenant().unwrap().as_str(), "acme");
    let admitted = |caller: &Caller, name| caller.admit(Operation::named(name));
    let scope = Scope::Within(vec![Part::of("acme".parse().unwrap())]);
    assert_eq!(admitted(&acme, "add_user"), Ok(scope.clone()));
    assert_eq!(admitted(&acme, "list_devices"), Ok(scope.clone()));
    assert_eq!(admitted(&acme, "list_cells"), Err(Refusal::Narrowed));
    assert_eq!(admitted(&acme, "add_tenant"), Err(Refusal::Narrowed));
    assert_eq!(scope.filter().unwrap().to_string(), "tenant==acme");
    assert_eq!(scope.home().unwrap().as_str(), "acme");
    assert!(scope.has_all_of("acme") && !scope.has("default"));
    // some devices of one, and all of another
    let both = with(&[
        on("acme", narrowed(Role::Operator, "site==north")),
        on("zeta", Grant::of(Role::Operator)),
    ]);
    assert_eq!(both.tenant(), None);
    let scope = admitted(&both, "create_task").unwrap();
    let text = "tenant==acme;site==north,tenant==zeta";
    assert_eq!(scope.filter().unwrap().to_string(), text);
    assert!(scope.has("acme") && !scope.has_all_of("acme") && scope.has_all_of("zeta"));
    assert_eq!(scope.home(), None);
    let zeta = admitted(&both, "upload_package").unwrap();
    assert_eq!(zeta.home().unwrap().as_str(), "zeta");
    let acme = scope.of_tenant(&"acme".parse().unwrap()).unwrap();
    assert_eq!(
        acme.filter().unwrap().to_string(),
        "tenant==acme;site==north"
    );
    assert_eq!(scope.of_tenant(&"none".parse().unwrap()), None);
    // whoever has everything may ask for one
    let one = Scope::Whole.of_tenant(&"zeta".parse().unwrap()).unwrap();
    assert_eq!(one.filter().unwrap().to_string(), "tenant==zeta");
    // a filter on all tenants stays a filter
    let north = with(&[narrowed(Role::Operator, "site==north")]);
    let north = admitted(&north, "create_task").unwrap();
    assert_eq!(
        (north.tenants(), north.home()),
        (None, Some(TenantId::default()))
    );
    let of_zeta = north.of_tenant(&"zeta".parse().unwrap()).unwrap();
    assert_eq!(
        of_zeta.filter().unwrap().to_string(),
        "tenant==zeta;site==north"
    );
    // the default tenant comes first where several are possible
    let with_default = with(&[
        on("acme", Grant::of(Role::Operator)),
        on("default", Grant::of(Role::Operator)),
    ]);
    let scope = admitted(&with_default, "add_device").unwrap();
    assert_eq!(scope.home(), Some(TenantId::default()));
}

#[test]
fn grants_are_checked() {
    let ok = |grants: &[Grant]| check_grants(grants);
    assert_eq!(ok(&[]), Err((None, GrantError::Count)));
    let many = vec![Grant::of(Role::Viewer); MAX_GRANTS + 1];
    assert_eq!(ok(&many), Err((None, GrantError::Count)));
    assert_eq!(ok(&many[1..]), Ok(()));
    let odd = [
        Grant::of(Role::Viewer),
        narrowed(Role::Administrator, "site==a"),
    ];
    let expected = GrantError::Narrowed(Role::Administrator);
    assert_eq!(ok(&odd), Err((Some(1), expected)));
    let long = vec!["site==a"; 30].join(",");
    let long = narrowed(Role::Viewer, &long);
    assert_eq!(ok(std::slice::from_ref(&long)), Ok(()));
    assert_eq!(
        ok(&[long.clone(), long]),
        Err((None, GrantError::Comparisons))
    );
    let wide = |site: &str| narrowed(Role::Viewer, &format!("site=={}", site.repeat(1_200)));
    assert_eq!(ok(&[wide("a")]), Ok(()));
    assert_eq!(ok(&[wide("a"), wide("b")]), Err((None, GrantError::Length)));
}

#[test]
fn nobody_answers_for_a_task_of_its_own() {
    let token = with(&[Grant::of(Role::Approver)]);
    assert!(token.may_answer_for(ADMIN_TOKEN, &[], true));
    assert!(token.may_answer_for("token:8:import", &[], false));
    assert!(!token.may_answer_for("token:7:import", &[], true));
    assert!(!token.may_answer_for("token:7:import", &[], false));
    let admin = Caller::admin_token();
    assert!(admin.may_answer_for("token:7:import", &[], true));
    // the only one that could
    assert!(admin.may_answer_for(ADMIN_TOKEN, &[], false));
    assert!(!admin.may_answer_for(ADMIN_TOKEN, &[], true));
    // nor for a change of its own
    let changers = ["user:5:anna".to_owned(), "token:7:import".to_owned()];
    assert!(!token.may_answer_for(ADMIN_TOKEN, &changers, true));
    assert!(token.may_answer_for(ADMIN_TOKEN, &changers[..1], true));
    assert!(!token.may_answer_for(ADMIN_TOKEN, &[ANYBODY.to_owned()], true));
    let changers = [ADMIN_TOKEN.to_owned()];
    assert!(!admin.may_answer_for("user:5:anna", &changers, true));
    assert!(admin.may_answer_for("user:5:anna", &changers, false));
}

/// The form in which grants are stored: do not change.
#[test]
fn grants_are_stored_as_this() {
    let grants = [
        narrowed(Role::Viewer, "site==north"),
        on("acme", Grant::of(Role::Approver)),
    ];
    let text = r#"[{"role":"viewer","tenant":"*","filter":"site==north"},{"role":"approver","tenant":"acme","filter":null}]"#;
    assert_eq!(serde_json::to_string(&grants).unwrap(), text);
    let read: Vec<Grant> = serde_json::from_str(text).unwrap();
    assert_eq!(read, grants);
    for role in Role::ALL {
        assert_eq!(serde_json::to_value(role).unwrap(), role.name());
    }
}

proptest! {
    /// One more grant never takes anything away, and gives nothing but what it is for.
    #[test]
    fn a_grant_widens(roles in prop::collection::vec((0..5_usize, 0..3_usize, 0..3_usize), 0..5), more in (0..5_usize, 0..3_usize, 0..3_usize)) {
        let grant = |(role, site, tenant): (usize, usize, usize)| Grant {
            tenant: match tenant {
                0 => Tenants::All,
                tenant => Tenants::One(format!("t{tenant}").parse().unwrap()),
            },
            ..match site {
                0 => Grant::of(Role::ALL[role]),
                site => narrowed(Role::ALL[role], &format!("site==s{site}")),
            }
        };
        let fewer: Vec<Grant> = roles.into_iter().map(grant).collect();
        let more = grant(more);
        let mut all = fewer.clone();
        all.push(more.clone());
        let (fewer, all) = (with(&fewer), with(&all));
        for operation in OPERATIONS {
            let (before, after) = (fewer.admit(Some(operation)), all.admit(Some(operation)));
            if let Ok(before) = &before {
                let after = after.clone().unwrap();
                match (before, &after) {
                    (_, Scope::Whole) => {}
                    (Scope::Within(few), Scope::Within(many)) => {
                        let is_in = |part: &Part, wider: &Part| {
                            (wider.filter.is_none() || wider.filter == part.filter)
                                && (wider.tenant.is_none() || wider.tenant == part.tenant)
                        };
                        prop_assert!(few.iter().all(|part| many.iter().any(|wider| is_in(part, wider))));
                    }
                    (Scope::Whole, Scope::Within(_)) => prop_assert!(false, "narrowed"),
                }
            }
            if before != after {
                prop_assert!(more.role.permits(operation.needs));
            }
        }
    }
}
