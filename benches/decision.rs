//! A decision of the policy: who, what, where. Of 20,000 assignments the caller has 10,000, most at single keys, and
//! is in ten groups. Aim: below a microsecond.

use std::hint::black_box;

use criterion::Criterion;
use strongroom::{
    access::{Action, Policy, Rows, roles},
    model::{AssignmentId, AssignmentRow, Identity, Lease, Principal, Scope, Timestamp},
};

/// Assignments of the caller, and of all others together.
const EACH: u128 = 10_000;

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("right")
}

fn assignment(n: u128, principal: Principal, scope: &str) -> AssignmentRow {
    let role = roles::built_in_by_name("Key Vault Crypto User").expect("it is built in").id;
    AssignmentRow {
        id: AssignmentId::from_bytes(n.to_be_bytes()),
        principal,
        role,
        scope: parsed(scope),
        created: Timestamp(0),
        intent: 0,
        revision: 1,
    }
}

fn caller() -> Identity {
    let groups = (0..10).map(|n| parsed(&format!("group:oidc:https://issuer.example#team-{n}"))).collect();
    Identity::new(parsed("spiffe://example.org/ns/payments/sa/signer"), groups, Lease::until(None))
}

fn policy() -> Policy {
    let caller = caller();
    let own = (0..EACH).map(|n| {
        let scope = format!("vaults/vault-{}/keys/key-{n}", n % 100);
        assignment(n, caller.principal().clone(), &scope)
    });
    let others = (EACH..2 * EACH).map(|n| {
        let scope = format!("vaults/vault-{}", n % 100);
        assignment(n, parsed(&format!("spiffe://example.org/other/{n}")), &scope)
    });
    Policy::new(1, Rows { assignments: own.chain(others).collect(), ..Rows::default() })
}

fn decisions(criterion: &mut Criterion) {
    let (policy, caller) = (policy(), caller());
    let mut group = criterion.benchmark_group("decision");
    for (what, scope, allowed) in [
        ("one key of 10,000", "vaults/vault-7/keys/key-4207", true),
        ("a key without a right", "vaults/vault-7/keys/nobody", false),
        ("another vault", "vaults/elsewhere/keys/key-1", false),
    ] {
        let scope: Scope = parsed(scope);
        assert_eq!(policy.allows(&caller, Action::KeysSign, &scope), allowed, "{what}");
        group.bench_function(what, |bencher| {
            bencher.iter(|| policy.allows(black_box(&caller), black_box(Action::KeysSign), black_box(&scope)));
        });
    }
    let extra = assignment(2 * EACH, parsed("spiffe://example.org/new"), "vaults/vault-1");
    group.bench_function("one more assignment", |bencher| {
        bencher.iter(|| policy.with_assignment(black_box(extra.clone())));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decisions(&mut criterion);
    criterion.final_summary();
}
