//! The policy against an oracle that is slow and obvious: a million random questions to five hundred random policies.
//! The oracle shares nothing with what it judges but the rows and the table of actions; it compares words.
//!
//! What it prints when they differ is the smallest policy and question at which they do, and the seed that leads
//! there again.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use proptest::prelude::*;

use super::{fixtures::*, review::who_can, roles::rights, source::sources, *};
use crate::model::{
    ActionPattern, AssignmentRow, Identity, ObjectType, Permissions, Principal, RoleId, RolePatterns, Scope,
};

/// Random policies, and random questions to each.
const WORLDS: u32 = 500;
const QUESTIONS: usize = 2_000;
const _: () = assert!(WORLDS as usize * QUESTIONS >= 1_000_000);

/// One question in so many is also put to what answers people, which walks all rows to do so.
const TO_PEOPLE_ONE_IN: usize = 100;

/// Who asks and who is given something: principals and groups.
const NAMES: [&str; 5] = ["a:1", "a:2", "a:3", "g:1", "g:2"];
/// The vault that decides by access policies.
const BY_POLICIES: &str = "policies";
/// A vault that has the same access policies, and decides by roles.
const BY_ROLES: &str = "dev";

/// What a random policy is made of.
#[derive(Clone, Debug)]
struct World {
    definitions: Vec<RoleDefinition>,
    assignments: Vec<AssignmentRow>,
    /// Who has which permissions with keys by access policies.
    policies: HashMap<String, Vec<&'static str>>,
}

/// `*` by trying every length: exponential, and plain.
fn like(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| like(rest, &name[skipped..])),
        Some((first, rest)) => name.first().is_some_and(|c| c.eq_ignore_ascii_case(first)) && like(rest, &name[1..]),
    }
}

fn role_permits(patterns: &RolePatterns, action: Action) -> bool {
    let data = action.plane() == Plane::Data;
    let texts = |list: &[ActionPattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let given = texts(if data { &patterns.data_actions } else { &patterns.actions });
    let taken = texts(if data { &patterns.not_data_actions } else { &patterns.not_actions });
    let hsm = |list: &[ActionPattern]| {
        let mut list = texts(list);
        list.retain(|text| text.to_lowercase().starts_with("microsoft.keyvault/managedhsm/"));
        list
    };
    let (hsm_given, hsm_taken) = (hsm(&patterns.data_actions), hsm(&patterns.not_data_actions));
    let any = |list: &[String], name: &str| list.iter().any(|pattern| like(pattern.as_bytes(), name.as_bytes()));
    let hsm_names: Vec<String> =
        action.managed_hsm().iter().map(|name| format!("Microsoft.KeyVault/managedHsm/{name}")).collect();
    let azure: Vec<String> = action.azure().iter().map(ToString::to_string).collect();
    let mut ways = vec![any(&given, action.name())];
    ways.push(!azure.is_empty() && !azure.iter().any(|name| !any(&given, name)));
    ways.push(!hsm_names.is_empty() && !hsm_names.iter().any(|name| !any(&hsm_given, name)));
    let back = any(&taken, action.name())
        || azure.iter().any(|name| any(&taken, name))
        || hsm_names.iter().any(|name| any(&hsm_taken, name));
    ways.contains(&true) && !back
}

/// The names of the actions that a role permits.
type Permitted = HashSet<&'static str>;

fn permitted(role: &RoleDefinition) -> Permitted {
    Action::ALL.into_iter().filter(|action| role_permits(&role.patterns, *action)).map(Action::name).collect()
}

/// The words of a scope, from the widest.
fn path(scope: &str) -> Vec<String> {
    scope.to_lowercase().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// What the oracle reads in a world.
struct Oracle {
    /// Who has what, and where.
    given: Vec<(String, Permitted, Vec<String>)>,
    policies: HashMap<String, Vec<&'static str>>,
}

impl Oracle {
    fn new(world: &World) -> Self {
        static BUILT_IN: LazyLock<HashMap<RoleId, Permitted>> =
            LazyLock::new(|| roles::built_in().iter().map(|role| (role.id, permitted(role))).collect());
        let own: HashMap<RoleId, Permitted> = world.definitions.iter().map(|role| (role.id, permitted(role))).collect();
        // A role that there is not permits nothing.
        let of = |role| BUILT_IN.get(&role).or_else(|| own.get(&role)).cloned().unwrap_or_default();
        let given = |row: &AssignmentRow| (row.principal.to_string(), of(row.role), path(&row.scope.to_string()));
        Self { given: world.assignments.iter().map(given).collect(), policies: world.policies.clone() }
    }

    /// One scope is within another when its words begin with the other's.
    fn allows(&self, names: &[&str], action: Action, asked: &[String]) -> bool {
        if asked.get(1).is_some_and(|vault| vault == BY_POLICIES) && action.plane() == Plane::Data {
            return names.iter().filter_map(|name| self.policies.get(*name)).any(|given| {
                let has = |needed: &str| {
                    let (kind, name) = needed.split_once('/').expect("{type}/{permission}");
                    kind == "keys" && (given.contains(&"all") || given.contains(&name))
                };
                !action.policy().is_empty() && action.policy().iter().all(|needed| has(needed))
            });
        }
        self.given.iter().any(|(who, permitted, place)| {
            names.contains(&who.as_str()) && asked.starts_with(place) && permitted.contains(action.name())
        })
    }
}

impl World {
    fn policies(&self) -> impl Iterator<Item = crate::model::AccessPolicyRow> {
        let of = |vault: &'static str| self.policies.iter().map(move |(who, given)| access_policy(vault, who, given));
        of(BY_POLICIES).chain(of(BY_ROLES))
    }

    /// The policy of its rows.
    fn made(&self) -> Policy {
        let (definitions, assignments) = (self.definitions.clone(), self.assignments.clone());
        let rows = Rows { definitions, assignments, policies: self.policies().collect(), ..Rows::default() };
        decided_by_policies(Policy::new(1, rows), BY_POLICIES)
    }

    /// The same policy, come to be by changes, some of them taken back.
    fn grown(&self) -> Policy {
        let mut policy = Policy::default();
        for row in &self.assignments {
            policy = policy.with_assignment(row.clone());
        }
        for role in &self.definitions {
            let other = RoleDefinition { patterns: RolePatterns::default(), ..role.clone() };
            policy = policy.with_definition(other).with_definition(role.clone());
        }
        let extra = assignment(99_999, "a:1", "administrator", "/");
        policy = policy.with_assignment(extra.clone()).without_assignment(extra.id);
        for row in self.policies() {
            policy = policy.with_access_policy(row);
        }
        let extra = access_policy(BY_POLICIES, "a:9", &["all"]);
        policy = policy.with_access_policy(extra.clone()).without_access_policy(&extra.vault, &extra.principal);
        decided_by_policies(policy, BY_POLICIES)
    }
}

/// A scope, and how it is written.
struct Place {
    text: String,
    scope: Scope,
    path: Vec<String>,
}

/// Everything that can be asked.
struct Questions {
    /// A name with up to two others as its groups.
    identities: Vec<(Vec<&'static str>, Identity)>,
    /// The service, vaults, types, objects.
    places: [Vec<Place>; 4],
}

static ALL: LazyLock<Questions> = LazyLock::new(Questions::all);

impl Questions {
    fn all() -> Self {
        let one = NAMES.map(|name| vec![name]).to_vec();
        let longer = |all: &[Vec<&'static str>]| -> Vec<Vec<&'static str>> {
            all.iter().flat_map(|names| NAMES.map(|name| [&names[..], &[name]].concat())).collect()
        };
        let two = longer(&one);
        let names = [one, two.clone(), longer(&two)].concat();
        let identities = names.into_iter().map(|names| (names.clone(), in_groups(names[0], &names[1..]))).collect();
        let below = |all: &[String], parts: &[&str]| -> Vec<String> {
            all.iter().flat_map(|wider| parts.iter().map(move |part| format!("{wider}/{part}"))).collect()
        };
        let vaults = below(&["vaults".to_owned()], &["dev", "prod", "policies"]);
        let types = below(&vaults, &["keys", "secrets", "certificates"]);
        let objects = below(&types, &["a", "A", "b-1", "B-1"]);
        let place = |text: String| Place { scope: at(&text), path: path(&text), text };
        let places = [vec!["/".to_owned()], vaults, types, objects];
        Self { identities, places: places.map(|texts| texts.into_iter().map(place).collect()) }
    }

    /// The question of a random number.
    fn pick(&self, number: u64) -> (&[&'static str], &Identity, Action, &Place) {
        let mut left = usize::try_from(number).expect("64 bits");
        let mut below = |bound: usize| {
            let picked = left % bound;
            left /= bound;
            picked
        };
        let (names, identity) = &self.identities[below(self.identities.len())];
        let action = Action::ALL[below(Action::ALL.len())];
        let places = &self.places[below(self.places.len())];
        (names, identity, action, &places[below(places.len())])
    }
}

fn scopes() -> impl Strategy<Value = Scope> {
    (0..ALL.places.len(), any::<prop::sample::Index>())
        .prop_map(|(depth, place)| place.get(&ALL.places[depth]).scope.clone())
}

fn actions() -> impl Strategy<Value = Action> {
    prop::sample::select(Action::ALL.to_vec())
}

/// Names of actions with a part of them, or all of it, replaced by a star.
fn patterns() -> impl Strategy<Value = Vec<ActionPattern>> {
    let one = (actions(), 0..3, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(action, face, cut, upper)| {
        let hsm = action.managed_hsm().iter().map(|name| format!("Microsoft.KeyVault/managedHsm/{name}"));
        let names: Vec<String> = match face {
            0 => vec![action.name().to_owned()],
            1 => action.azure().iter().map(ToString::to_string).collect(),
            _ => hsm.collect(),
        };
        let name = names.first().cloned().unwrap_or_else(|| "*".to_owned());
        let cut = cut.index(name.len() + 1);
        let text = if upper { format!("*{}", &name[cut..]) } else { format!("{}*", &name[..cut]) };
        text.parse().expect("a pattern")
    });
    prop::collection::vec(one, 0..4)
}

fn role_patterns() -> impl Strategy<Value = RolePatterns> {
    (patterns(), patterns(), patterns(), patterns()).prop_map(
        |(actions, not_actions, data_actions, not_data_actions)| RolePatterns {
            actions,
            not_actions,
            data_actions,
            not_data_actions,
        },
    )
}

fn definition(n: u8, patterns: RolePatterns) -> RoleDefinition {
    RoleDefinition {
        id: RoleId::from_bytes([n; 16]),
        name: format!("custom {n}"),
        description: String::new(),
        patterns,
        assignable_scopes: vec![Scope::Service],
        custom: None,
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let definitions = prop::collection::vec(role_patterns(), 3);
    // Of the last there is no definition.
    let custom = [0, 1, 2, 9].map(|n| RoleId::from_bytes([n; 16]));
    let ids: Vec<RoleId> = roles::built_in().iter().map(|role| role.id).chain(custom).collect();
    let given = (prop::sample::select(&NAMES[..]), prop::sample::select(ids), scopes());
    let assignments = prop::collection::vec(given, 0..24);
    let permissions = prop::sample::subsequence(Permissions::known(ObjectType::Keys).to_vec(), 0..8);
    let who = prop::sample::select(&NAMES[..]).prop_map(str::to_owned);
    let policies = prop::collection::hash_map(who, permissions, 0..4);
    (definitions, assignments, policies).prop_map(|(definitions, assignments, policies)| World {
        definitions: (0..).zip(definitions).map(|(n, patterns)| definition(n, patterns)).collect(),
        assignments: (0..)
            .zip(assignments)
            .map(|(n, (who, role, scope))| AssignmentRow { role, scope, ..assignment(n, who, "administrator", "/") })
            .collect(),
        policies,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(WORLDS))]

    #[test]
    fn a_million_decisions_are_those_of_the_oracle(
        world in worlds(),
        numbers in prop::collection::vec(any::<u64>(), QUESTIONS),
    ) {
        let (oracle, made, grown) = (Oracle::new(&world), world.made(), world.grown());
        for (n, number) in numbers.into_iter().enumerate() {
            let (names, identity, action, place) = ALL.pick(number);
            let (expected, scope) = (oracle.allows(names, action, &place.path), &place.scope);
            let asked = || format!("{names:?} {} {}", action.name(), place.text);
            prop_assert_eq!(made.allows(identity, action, scope), expected, "made: {}", asked());
            prop_assert_eq!(grown.allows(identity, action, scope), expected, "grown: {}", asked());
            if n % TO_PEOPLE_ONE_IN == 0 {
                prop_assert_eq!(!sources(&made, identity, action, scope).is_empty(), expected, "sources: {}", asked());
                let can: HashSet<String> = who_can(&made, action, scope).iter().map(Principal::to_string).collect();
                let may = NAMES.into_iter().filter(|name| oracle.allows(&[name], action, &place.path));
                prop_assert_eq!(can, may.map(str::to_owned).collect::<HashSet<_>>(), "who can: {}", asked());
            }
        }
    }
}

proptest! {
    #[test]
    fn patterns_come_to_what_the_oracle_says(patterns in role_patterns()) {
        let expected: Rights = Action::ALL.into_iter().filter(|action| role_permits(&patterns, *action)).collect();
        prop_assert_eq!(rights(&patterns), expected);
    }
}
