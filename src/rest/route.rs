//! Which operation a method and a path name. Every operation that Azure has is here, also those that this service does not
//! do: an honest answer needs to know what was asked.

use http::Method;

use super::fault::Fault;

/// An operation, by the name that Azure's own log gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    KeyCreate,
    KeyImport,
    KeyRotate,
    KeyGet,
    KeyUpdate,
    KeyList,
    KeyListVersions,
    KeyDelete,
    KeyBackup,
    KeyRestore,
    KeyEncrypt,
    KeyDecrypt,
    KeyWrap,
    KeyUnwrap,
    KeySign,
    KeyVerify,
    KeyRotationPolicyGet,
    KeyRotationPolicySet,
    KeyListDeleted,
    KeyGetDeleted,
    KeyRecover,
    KeyPurge,
    KeyRelease,
    KeyAttestation,
    KeySecureWrap,
    KeySelectiveRestore,
    RandomBytes,
    RoleDefinitionList,
    RoleDefinitionGet,
    RoleDefinitionSet,
    RoleDefinitionDelete,
    RoleAssignmentList,
    RoleAssignmentGet,
    RoleAssignmentSet,
    RoleAssignmentDelete,
    SecretSet,
    SecretGet,
    SecretUpdate,
    SecretList,
    SecretListVersions,
    SecretDelete,
    SecretBackup,
    SecretRestore,
    SecretListDeleted,
    SecretGetDeleted,
    SecretRecover,
    SecretPurge,
    CertificateList,
    CertificateGet,
    CertificateChange,
    HsmAdministration,
}

impl Operation {
    /// Every one.
    #[cfg(test)]
    pub(super) const ALL: [Self; 51] = [
        Self::KeyCreate,
        Self::KeyImport,
        Self::KeyRotate,
        Self::KeyGet,
        Self::KeyUpdate,
        Self::KeyList,
        Self::KeyListVersions,
        Self::KeyDelete,
        Self::KeyBackup,
        Self::KeyRestore,
        Self::KeyEncrypt,
        Self::KeyDecrypt,
        Self::KeyWrap,
        Self::KeyUnwrap,
        Self::KeySign,
        Self::KeyVerify,
        Self::KeyRotationPolicyGet,
        Self::KeyRotationPolicySet,
        Self::KeyListDeleted,
        Self::KeyGetDeleted,
        Self::KeyRecover,
        Self::KeyPurge,
        Self::KeyRelease,
        Self::KeyAttestation,
        Self::KeySecureWrap,
        Self::KeySelectiveRestore,
        Self::RandomBytes,
        Self::RoleDefinitionList,
        Self::RoleDefinitionGet,
        Self::RoleDefinitionSet,
        Self::RoleDefinitionDelete,
        Self::RoleAssignmentList,
        Self::RoleAssignmentGet,
        Self::RoleAssignmentSet,
        Self::RoleAssignmentDelete,
        Self::SecretSet,
        Self::SecretGet,
        Self::SecretUpdate,
        Self::SecretList,
        Self::SecretListVersions,
        Self::SecretDelete,
        Self::SecretBackup,
        Self::SecretRestore,
        Self::SecretListDeleted,
        Self::SecretGetDeleted,
        Self::SecretRecover,
        Self::SecretPurge,
        Self::CertificateList,
        Self::CertificateGet,
        Self::CertificateChange,
        Self::HsmAdministration,
    ];

    /// The name in metrics, logs and traces.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::KeyCreate => "azure/KeyCreate",
            Self::KeyImport => "azure/KeyImport",
            Self::KeyRotate => "azure/KeyRotate",
            Self::KeyGet => "azure/KeyGet",
            Self::KeyUpdate => "azure/KeyUpdate",
            Self::KeyList => "azure/KeyList",
            Self::KeyListVersions => "azure/KeyListVersions",
            Self::KeyDelete => "azure/KeyDelete",
            Self::KeyBackup => "azure/KeyBackup",
            Self::KeyRestore => "azure/KeyRestore",
            Self::KeyEncrypt => "azure/KeyEncrypt",
            Self::KeyDecrypt => "azure/KeyDecrypt",
            Self::KeyWrap => "azure/KeyWrap",
            Self::KeyUnwrap => "azure/KeyUnwrap",
            Self::KeySign => "azure/KeySign",
            Self::KeyVerify => "azure/KeyVerify",
            Self::KeyRotationPolicyGet => "azure/KeyRotationPolicyGet",
            Self::KeyRotationPolicySet => "azure/KeyRotationPolicySet",
            Self::KeyListDeleted => "azure/KeyListDeleted",
            Self::KeyGetDeleted => "azure/KeyGetDeleted",
            Self::KeyRecover => "azure/KeyRecover",
            Self::KeyPurge => "azure/KeyPurge",
            Self::KeyRelease => "azure/KeyRelease",
            Self::KeyAttestation => "azure/KeyAttestation",
            Self::KeySecureWrap => "azure/KeySecureWrap",
            Self::KeySelectiveRestore => "azure/KeySelectiveRestore",
            Self::RandomBytes => "azure/RandomBytes",
            Self::RoleDefinitionList => "azure/RoleDefinitionList",
            Self::RoleDefinitionGet => "azure/RoleDefinitionGet",
            Self::RoleDefinitionSet => "azure/RoleDefinitionSet",
            Self::RoleDefinitionDelete => "azure/RoleDefinitionDelete",
            Self::RoleAssignmentList => "azure/RoleAssignmentList",
            Self::RoleAssignmentGet => "azure/RoleAssignmentGet",
            Self::RoleAssignmentSet => "azure/RoleAssignmentSet",
            Self::RoleAssignmentDelete => "azure/RoleAssignmentDelete",
            Self::SecretSet => "azure/SecretSet",
            Self::SecretGet => "azure/SecretGet",
            Self::SecretUpdate => "azure/SecretUpdate",
            Self::SecretList => "azure/SecretList",
            Self::SecretListVersions => "azure/SecretListVersions",
            Self::SecretDelete => "azure/SecretDelete",
            Self::SecretBackup => "azure/SecretBackup",
            Self::SecretRestore => "azure/SecretRestore",
            Self::SecretListDeleted => "azure/SecretListDeleted",
            Self::SecretGetDeleted => "azure/SecretGetDeleted",
            Self::SecretRecover => "azure/SecretRecover",
            Self::SecretPurge => "azure/SecretPurge",
            Self::CertificateList => "azure/CertificateList",
            Self::CertificateGet => "azure/CertificateGet",
            Self::CertificateChange => "azure/CertificateChange",
            Self::HsmAdministration => "azure/HsmAdministration",
        }
    }

    /// Whether it brings something back: its body is long.
    pub(super) const fn is_restore(self) -> bool {
        matches!(self, Self::KeyRestore | Self::SecretRestore)
    }

    /// Whether it is about secrets or certificates, which a Managed HSM has not.
    pub(super) const fn is_of_vaults_only(self) -> bool {
        matches!(
            self,
            Self::SecretSet
                | Self::SecretGet
                | Self::SecretUpdate
                | Self::SecretList
                | Self::SecretListVersions
                | Self::SecretDelete
                | Self::SecretBackup
                | Self::SecretRestore
                | Self::SecretListDeleted
                | Self::SecretGetDeleted
                | Self::SecretRecover
                | Self::SecretPurge
                | Self::CertificateList
                | Self::CertificateGet
                | Self::CertificateChange
        )
    }

    /// What a use of a key at the end of a path is.
    fn of_key(word: &str) -> Option<Self> {
        Some(match word {
            "encrypt" => Self::KeyEncrypt,
            "decrypt" => Self::KeyDecrypt,
            "wrapkey" => Self::KeyWrap,
            "unwrapkey" => Self::KeyUnwrap,
            "sign" => Self::KeySign,
            "verify" => Self::KeyVerify,
            "release" => Self::KeyRelease,
            "securewrapkey" | "secureunwrapkey" => Self::KeySecureWrap,
            _ => return None,
        })
    }
}

/// An operation, and what of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) operation: Operation,
    /// The object's name, or a role's id; empty where there is none.
    pub(super) name: String,
    /// Its version.
    pub(super) version: Option<String>,
    /// Of a role: the scope, as the parts before `providers`.
    pub(super) scope: Vec<String>,
}

impl Route {
    fn new(operation: Operation) -> Self {
        Self { operation, name: String::new(), version: None, scope: Vec::new() }
    }

    fn of(operation: Operation, name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::new(operation) }
    }

    fn version(self, version: &str) -> Self {
        Self { version: Some(version.to_owned()), ..self }
    }
}

const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The operation of a method and the parts of a path.
pub(super) fn route(method: &Method, parts: &[String]) -> Result<Route, Fault> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if let Some(found) = find(method, &parts) {
        return Ok(found);
    }
    let allow: Vec<&str> = METHODS.iter().filter(|other| find(other, &parts).is_some()).map(Method::as_str).collect();
    if allow.is_empty() {
        let message = "The request URI names nothing that this service has.";
        return Err(Fault::new(http::StatusCode::NOT_FOUND, "NotFound", message));
    }
    let message = format!("The HTTP method is not allowed here; {} are.", allow.join(", "));
    let fault = Fault::new(http::StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
    Err(Fault { allow: Some(allow.join(", ")), ..fault })
}

fn find(method: &Method, parts: &[&str]) -> Option<Route> {
    let (first, rest) = parts.split_first()?;
    if let Some(found) = roles(method, parts) {
        return Some(found);
    }
    match (first.to_ascii_lowercase().as_str(), method.as_str()) {
        ("keys", _) => keys(method, rest),
        ("deletedkeys", _) => deleted_keys(method, rest),
        ("rng", "POST") if rest.is_empty() => Some(Route::new(Operation::RandomBytes)),
        ("secrets", _) => secrets(method, rest),
        ("deletedsecrets", _) => deleted_secrets(method, rest),
        ("certificates" | "deletedcertificates", method) => {
            let operations = (Operation::CertificateList, Operation::CertificateGet, Operation::CertificateChange);
            absent(operations, method, rest)
        }
        ("backup" | "restore" | "prebackup" | "prerestore" | "settings" | "securitydomain" | "ekm", method)
            if METHODS.iter().any(|known| known.as_str() == method) =>
        {
            Some(Route::new(Operation::HsmAdministration))
        }
        _ => None,
    }
}

fn keys(method: &Method, rest: &[&str]) -> Option<Route> {
    use Operation as O;
    let last = rest.last().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    Some(match (method.as_str(), rest) {
        ("GET", []) => Route::new(O::KeyList),
        ("POST", [_]) if last == "restore" => Route::new(O::KeyRestore),
        ("GET", [name]) => Route::of(O::KeyGet, name),
        ("PUT", [name]) => Route::of(O::KeyImport, name),
        ("PATCH", [name]) => Route::of(O::KeyUpdate, name),
        ("DELETE", [name]) => Route::of(O::KeyDelete, name),
        ("POST", [name, _]) if last == "create" => Route::of(O::KeyCreate, name),
        ("POST", [name, _]) if last == "rotate" => Route::of(O::KeyRotate, name),
        ("POST", [name, _]) if last == "backup" => Route::of(O::KeyBackup, name),
        ("PUT", [name, _]) if last == "restore" => Route::of(O::KeySelectiveRestore, name),
        ("GET", [name, _]) if last == "versions" => Route::of(O::KeyListVersions, name),
        ("GET", [name, _]) if last == "rotationpolicy" => Route::of(O::KeyRotationPolicyGet, name),
        ("PUT", [name, _]) if last == "rotationpolicy" => Route::of(O::KeyRotationPolicySet, name),
        ("GET", [name, _]) if last == "attestation" => Route::of(O::KeyAttestation, name),
        ("GET", [name, version, _]) if last == "attestation" => Route::of(O::KeyAttestation, name).version(version),
        ("POST", [name, _]) => Route::of(O::of_key(&last)?, name),
        ("POST", [name, version, _]) => Route::of(O::of_key(&last)?, name).version(version),
        ("GET", [name, version]) if !is_word(&last) => Route::of(O::KeyGet, name).version(version),
        ("PATCH", [name, version]) if !is_word(&last) => Route::of(O::KeyUpdate, name).version(version),
        _ => return None,
    })
}

/// Words that are no versions.
fn is_word(last: &str) -> bool {
    let words = ["create", "rotate", "backup", "restore", "versions", "rotationpolicy", "attestation"];
    words.contains(&last) || Operation::of_key(last).is_some()
}

fn deleted_keys(method: &Method, rest: &[&str]) -> Option<Route> {
    Some(match (method.as_str(), rest) {
        ("GET", []) => Route::new(Operation::KeyListDeleted),
        ("GET", [name]) => Route::of(Operation::KeyGetDeleted, name),
        ("DELETE", [name]) => Route::of(Operation::KeyPurge, name),
        ("POST", [name, word]) if word.eq_ignore_ascii_case("recover") => Route::of(Operation::KeyRecover, name),
        _ => return None,
    })
}

fn secrets(method: &Method, rest: &[&str]) -> Option<Route> {
    use Operation as O;
    let last = rest.last().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    let is_word = ["backup", "restore", "versions"].contains(&last.as_str());
    Some(match (method.as_str(), rest) {
        ("GET", []) => Route::new(O::SecretList),
        ("POST", [_]) if last == "restore" => Route::new(O::SecretRestore),
        ("GET", [name]) => Route::of(O::SecretGet, name),
        ("PUT", [name]) => Route::of(O::SecretSet, name),
        ("PATCH", [name]) => Route::of(O::SecretUpdate, name),
        ("DELETE", [name]) => Route::of(O::SecretDelete, name),
        ("POST", [name, _]) if last == "backup" => Route::of(O::SecretBackup, name),
        ("GET", [name, _]) if last == "versions" => Route::of(O::SecretListVersions, name),
        ("GET", [name, version]) if !is_word => Route::of(O::SecretGet, name).version(version),
        ("PATCH", [name, version]) if !is_word => Route::of(O::SecretUpdate, name).version(version),
        _ => return None,
    })
}

fn deleted_secrets(method: &Method, rest: &[&str]) -> Option<Route> {
    Some(match (method.as_str(), rest) {
        ("GET", []) => Route::new(Operation::SecretListDeleted),
        ("GET", [name]) => Route::of(Operation::SecretGetDeleted, name),
        ("DELETE", [name]) => Route::of(Operation::SecretPurge, name),
        ("POST", [name, word]) if word.eq_ignore_ascii_case("recover") => Route::of(Operation::SecretRecover, name),
        _ => return None,
    })
}

/// Objects of a kind that is not kept here: to read them finds nothing, which is true.
fn absent(operations: (Operation, Operation, Operation), method: &str, rest: &[&str]) -> Option<Route> {
    let (list, get, change) = operations;
    Some(match (method, rest) {
        ("GET", []) => Route::new(list),
        ("GET", [name, ..]) => Route::of(get, name),
        ("POST" | "PUT" | "PATCH" | "DELETE", [name, ..]) => Route::of(change, name),
        _ => return None,
    })
}

/// `{scope}/providers/Microsoft.Authorization/{roleDefinitions|roleAssignments}[/{id}]`.
fn roles(method: &Method, parts: &[&str]) -> Option<Route> {
    use Operation as O;
    let at = parts.iter().position(|part| part.eq_ignore_ascii_case("providers"))?;
    let (scope, rest) = parts.split_at(at);
    let [_, provider, kind, id @ ..] = rest else { return None };
    if !provider.eq_ignore_ascii_case("Microsoft.Authorization") || id.len() > 1 {
        return None;
    }
    let is_definition = kind.eq_ignore_ascii_case("roleDefinitions");
    if !is_definition && !kind.eq_ignore_ascii_case("roleAssignments") {
        return None;
    }
    let id = id.first().copied();
    let operation = match (method.as_str(), id.is_some(), is_definition) {
        ("GET", false, true) => O::RoleDefinitionList,
        ("GET", true, true) => O::RoleDefinitionGet,
        ("PUT", true, true) => O::RoleDefinitionSet,
        ("DELETE", true, true) => O::RoleDefinitionDelete,
        ("GET", false, false) => O::RoleAssignmentList,
        ("GET", true, false) => O::RoleAssignmentGet,
        ("PUT", true, false) => O::RoleAssignmentSet,
        ("DELETE", true, false) => O::RoleAssignmentDelete,
        _ => return None,
    };
    let scope = scope.iter().map(|part| (*part).to_owned()).collect();
    Some(Route { scope, ..Route::of(operation, id.unwrap_or_default()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Result<Route, Fault> {
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        route(&method.parse().expect("a method"), &parts)
    }

    #[test]
    fn every_operation_on_keys_has_its_path() {
        use Operation as O;
        const V: &str = "00000000000000000000000000000000";
        for (method, path, operation, version) in [
            ("POST", "/keys/n/create", O::KeyCreate, None),
            ("PUT", "/keys/n", O::KeyImport, None),
            ("POST", "/keys/n/rotate", O::KeyRotate, None),
            ("GET", "/keys/n/", O::KeyGet, None),
            ("GET", "/keys/n/00000000000000000000000000000000", O::KeyGet, Some(V)),
            ("PATCH", "/keys/n", O::KeyUpdate, None),
            ("PATCH", "/keys/n/00000000000000000000000000000000", O::KeyUpdate, Some(V)),
            ("GET", "/keys/n/versions", O::KeyListVersions, None),
            ("DELETE", "/keys/n", O::KeyDelete, None),
            ("POST", "/keys/n/backup", O::KeyBackup, None),
            ("POST", "/keys/n//sign", O::KeySign, None),
            ("POST", "/keys/n/00000000000000000000000000000000/wrapKey", O::KeyWrap, Some(V)),
            ("POST", "/keys/n/unwrapkey", O::KeyUnwrap, None),
            ("GET", "/keys/n/rotationpolicy", O::KeyRotationPolicyGet, None),
            ("PUT", "/keys/n/rotationPolicy", O::KeyRotationPolicySet, None),
            ("GET", "/deletedkeys/n", O::KeyGetDeleted, None),
            ("DELETE", "/deletedkeys/n", O::KeyPurge, None),
            ("POST", "/deletedkeys/n/recover", O::KeyRecover, None),
        ] {
            let route = found(method, path).expect(path);
            assert_eq!((route.operation, route.name.as_str(), route.version.as_deref()), (operation, "n", version));
        }
        assert_eq!(found("GET", "/keys").expect("a list").operation, O::KeyList);
        assert_eq!(found("GET", "/keys/restore").expect("a name").operation, O::KeyGet);
        assert_eq!(found("POST", "/keys/restore").expect("a restore").operation, O::KeyRestore);
    }

    #[test]
    fn every_operation_on_secrets_has_its_path() {
        use Operation as O;
        for (method, path, operation) in [
            ("PUT", "/secrets/n", O::SecretSet),
            ("GET", "/secrets/n/", O::SecretGet),
            ("GET", "//secrets/n/00000000000000000000000000000000", O::SecretGet),
            ("PATCH", "/secrets/n/", O::SecretUpdate),
            ("GET", "/secrets/n/versions", O::SecretListVersions),
            ("DELETE", "/secrets/n", O::SecretDelete),
            ("POST", "/secrets/n/backup", O::SecretBackup),
            ("GET", "/deletedsecrets/n", O::SecretGetDeleted),
            ("POST", "/deletedsecrets/n/recover", O::SecretRecover),
            ("DELETE", "/deletedsecrets/n", O::SecretPurge),
        ] {
            let route = found(method, path).expect(path);
            assert_eq!((route.operation, route.name.as_str()), (operation, "n"), "{path}");
            assert!(route.operation.is_of_vaults_only());
        }
        assert_eq!(found("POST", "/secrets/restore").expect("a restore").operation, O::SecretRestore);
        assert_eq!(found("GET", "/secrets").expect("a list").operation, O::SecretList);
        assert_eq!(found("GET", "/deletedsecrets").expect("a list").operation, O::SecretListDeleted);
    }

    #[test]
    fn roles_have_a_scope_before_them() {
        let base = "providers/Microsoft.Authorization";
        for (path, scope, id) in [
            (format!("//{base}/roleAssignments/x"), 0, "x"),
            (format!("/keys/{base}/roleAssignments"), 1, ""),
            (format!("/keys/n/{base}/roleDefinitions"), 2, ""),
        ] {
            let route = found("GET", &path).expect("a role");
            assert_eq!((route.scope.len(), route.name.as_str()), (scope, id));
        }
        assert!(found("GET", "/keys/n/providers/Microsoft.Other/roleDefinitions").is_err());
    }

    #[test]
    fn what_a_path_does_not_take_is_told_from_what_is_no_path() {
        let wrong = found("DELETE", "/keys").expect_err("a list");
        assert_eq!((wrong.status.as_u16(), wrong.allow.as_deref()), (405, Some("GET")));
        for (method, path) in [("TRACE", "/keys/n"), ("HEAD", "/keys"), ("GET", "/keys/n/sign")] {
            assert_eq!(found(method, path).expect_err(path).status.as_u16(), 405, "{path}");
        }
        for path in ["/", "/x", "/keys/a/b/c/d", "/rng/x", "/deletedkeys/a/b"] {
            assert_eq!(found("GET", path).expect_err(path).status.as_u16(), 404, "{path}");
        }
    }

    #[test]
    fn labels_are_told_apart() {
        let labels: std::collections::BTreeSet<&str> = Operation::ALL.map(Operation::label).into();
        assert_eq!(labels.len(), Operation::ALL.len());
    }
}
