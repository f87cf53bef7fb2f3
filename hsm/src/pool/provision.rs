//! Provisioning: one worker of its own, asked a few things in order, ended afterwards.

use std::time::Duration;

use crate::{
    error::StartError,
    pool::process::Process,
    profile::Profile,
    protocol::{Capabilities, Fault, Hierarchy, NewRoot, Offers, Provision, Request, Response, Role},
};

/// How long one step may take: an RSA key of 4096 bits, a token on a slow disk, a network HSM.
const STEP_WITHIN: Duration = Duration::from_secs(120);
/// How long the worker may take to close its session and end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What provisioning answers.
pub enum Provisioned {
    /// Done.
    Done,
    /// A new hierarchy.
    Hierarchy(Hierarchy),
    /// A root in place of another.
    Root(NewRoot),
    /// The public half of a log key in place of another: SubjectPublicKeyInfo (DER).
    LogKey(Vec<u8>),
    /// What the module can do.
    Capabilities(Capabilities),
    /// What the module lists.
    Offers(Offers),
}

/// Runs provisioning requests, in order, in one worker of its own that ends afterwards. Each may take 120
/// seconds.
///
/// # Errors
/// When the worker does not start, or one of the requests fails: the lane is then `provision`, and the
/// requests after it are not made.
pub async fn provision(profile: &Profile, requests: Vec<Provision>) -> Result<Vec<Provisioned>, StartError> {
    let (mut process, _) = Process::start(profile, None, 0, Role::Provision).await?;
    let mut provisioned = Vec::with_capacity(requests.len());
    for request in requests {
        match process.ask(Request::Provision(Box::new(request)), STEP_WITHIN).await? {
            Response::Done => provisioned.push(Provisioned::Done),
            Response::Hierarchy(hierarchy) => provisioned.push(Provisioned::Hierarchy(*hierarchy)),
            Response::Root(root) => provisioned.push(Provisioned::Root(root)),
            Response::LogKey(public) => provisioned.push(Provisioned::LogKey(public.into_vec())),
            Response::Capabilities(capabilities) => provisioned.push(Provisioned::Capabilities(capabilities)),
            Response::Offers(offers) => provisioned.push(Provisioned::Offers(offers)),
            _ => {
                process.end(Duration::ZERO).await;
                return Err(StartError::Refused { lane: "provision", source: Fault::Protocol });
            }
        }
    }
    process.end(END_WITHIN).await;
    Ok(provisioned)
}
