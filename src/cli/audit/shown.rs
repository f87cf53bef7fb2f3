//! What a log shows a witness: its newest checkpoint, and the proof that its tree continues an older one; out of its
//! folder, or from a server. Nothing is believed yet.

use std::path::Path;

use strongroom_proto::v1::{AuditCheckpoint, AuditFilter};

use super::filter::action;
use crate::{
    audit::{
        handover,
        prove::{ProveError, Prover},
        tlog::{Checkpoint, Hash, SignedNote, proof::MakeError},
    },
    cli::{compose::failure, connection::ConnectionArgs, failure::Failure},
};

/// What a log shows.
pub(super) struct Shown {
    /// The newest checkpoint.
    pub(super) note: SignedNote,
    /// The proof, which is empty where there is none: the log is shorter than what it is asked for.
    pub(super) proof: Vec<Hash>,
    /// Notes by which one key of the log hands over to the next.
    pub(super) handovers: Vec<(String, SignedNote)>,
}

/// Out of the log's folder.
pub(super) fn local(log: &Path, old: u64) -> anyhow::Result<Shown> {
    let prover = Prover::new(log);
    let shorter = |error: &ProveError| matches!(error, ProveError::Make(MakeError::Shrunk { .. }));
    let shown = prover.extension(old).or_else(|error| if shorter(&error) { prover.extension(0) } else { Err(error) });
    let shown = shown.map_err(|error| failure("the log shows no checkpoint", &error))?;
    let handovers = handover::notes(log).map_err(|error| failure("the log cannot be read", &error))?;
    Ok(Shown { note: note(&shown.note)?, proof: shown.proof, handovers })
}

/// From the server. One whose log is shorter refuses the proof; then its checkpoint without one says so.
pub(super) async fn remote(connection: &ConnectionArgs, old: u64) -> anyhow::Result<Shown> {
    let action = action("fetch the newest checkpoint", &AuditFilter::default());
    let client = connection.connect().await?;
    let answer = match client.call(&action, client.api.get_audit_checkpoint(old)).await {
        Ok(answer) => answer,
        Err(refused) if old > 0 => {
            let answer = client.call(&action, client.api.get_audit_checkpoint(0)).await?;
            if size(&answer)? >= old {
                return Err(refused.into());
            }
            answer
        }
        Err(refused) => return Err(refused.into()),
    };
    let proof = answer.consistency_proof.iter().map(|hash| Hash::try_from(hash.as_slice()));
    let proof = proof.collect::<Result<Vec<_>, _>>();
    let proof = proof.map_err(|_| Failure::new("the server's proof is not made of SHA-256 hashes"))?;
    let handovers = answer.handovers.iter().map(|text| Ok(("what the server shows".to_owned(), note(text)?)));
    let handovers = handovers.collect::<anyhow::Result<_>>()?;
    Ok(Shown { note: note(&answer.note)?, proof, handovers })
}

fn note(text: &str) -> anyhow::Result<SignedNote> {
    Ok(SignedNote::parse(text.as_bytes()).map_err(|error| failure("what was shown is no checkpoint", &error))?)
}

fn size(answer: &AuditCheckpoint) -> anyhow::Result<u64> {
    let checkpoint = Checkpoint::parse(note(&answer.note)?.text());
    Ok(checkpoint.map_err(|error| failure("what was shown is no checkpoint", &error))?.size())
}
