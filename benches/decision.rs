//! A decision of the policy: who, what, where. Of 20,000 assignments the caller has 10,000, most at single keys, and
//! is in ten groups. Aim: below a microsecond. That it allocates nothing is a test: `tests/decision`.

use std::hint::black_box;

use criterion::Criterion;
use strongroom::{access::Action, model::Scope};

#[path = "../tests/decision/policy.rs"]
mod policy;

use policy::{EACH, assignment, caller, parsed};

fn decisions(criterion: &mut Criterion) {
    let (policy, caller) = (policy::policy(), caller());
    let mut group = criterion.benchmark_group("decision");
    for (what, scope, allowed) in [
        ("one key of 10,000", "vaults/vault-7/keys/key-4207", true),
        ("a key without a right", "vaults/vault-7/keys/nobody", false),
        ("another vault", "vaults/elsewhere/keys/key-1", false),
        ("an access policy", "vaults/older/keys/k", true),
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
