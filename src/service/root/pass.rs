//! From one stage to the next: waits until every replica has adopted the one before, and carries over what there is.
//!
//! A pass goes through every scope once. It begins after every replica makes and seals by the new root, so what is written
//! meanwhile is right already; what was there before is looked at, row by row: a row whose seal is not that of the new
//! sealing key is checked by the old one and sealed anew, and a blob under the old root is wrapped anew and proved. When
//! nothing of it is left the old root may go. A crash loses a place in a list: the next pass looks at all again, and has
//! little to do.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
    time::Duration,
};

use strongroom_hsm::{
    KekId, KeyRow, Seal,
    pool::{Provisioned, Renewer, provision},
    protocol::{Fault, Moment, Provision, Renewed, Renewing},
};
use tokio_util::sync::CancellationToken;

use super::{
    RENEWING, opener,
    rows::{Candidate, Page, PutBack, Walk},
    unopened,
};
use crate::{
    access::{Op as _, Permit, ops},
    model::{InstanceRow, Renewal, Row as _, RowId, RowKind, Scope, Stage, Timestamp, VaultName, VersionId},
    observe::metrics::{ROOT_ROWS, ROOT_STAGE},
    service::{
        Service,
        door::{Applied, Context, Work},
        error::{Problem, ServiceError},
        hands::outage,
        scopes::{Making, NewRow, Put},
    },
    store::{HeadScope, WorkLease},
};

/// For so long the lease is taken, each time anew.
const RENEWING_FOR: Duration = Duration::from_secs(30);
/// Nothing new is begun after so long; the lease is then taken again.
const SLICE: Duration = Duration::from_secs(10);
/// How long one page may take.
const PAGE_WITHIN: Duration = Duration::from_secs(60);
/// So many rows are put back in one change.
const PUT_BACK_MAX: usize = 200;
/// A page of which somebody changes a key meanwhile is read again, so often at most; then the next pass sees to it.
const READINGS_MAX: u32 = 10;
/// A worker that has carried over so many is followed by another: a module may leak something with each.
const RENEWER_ROWS_MAX: u64 = 50_000;
/// After a failure, and after a pass that left something, it is tried again after so long.
const RETRY: Duration = Duration::from_secs(10);
/// Under which name the service records what it does.
const PRINCIPAL: &str = "strongroom:root";

/// Where a pass is.
#[derive(Default)]
pub struct Pass {
    begun: bool,
    /// Nothing was left so far.
    clean: bool,
    walk: Option<Walk>,
    /// Somebody has changed a key of the page meanwhile, which is under the old root as it was.
    is_missed: bool,
    /// How often the page was read.
    readings: u32,
    /// The vault whose turn was last; none before the first.
    vault: Option<VaultName>,
    /// The vaults that were gone through.
    vaults: HashSet<[u8; 16]>,
    /// The service's own scope is done.
    service_done: bool,
    /// Of which rotation, and under which turn, it is.
    of: Option<(Timestamp, Option<KekId>, u64)>,
    renewer: Option<Renewer>,
    rests_until: Option<Moment>,
}

impl Pass {
    /// Whether the page that was carried over is read again: then the walk is put back to it.
    fn reads_again(&mut self, page: Page) -> bool {
        self.readings += 1;
        let is_missed = mem::take(&mut self.is_missed);
        if let Some(walk) = self.walk.as_mut().filter(|_| is_missed && self.readings < READINGS_MAX) {
            walk.back_to(page);
            return true;
        }
        self.clean &= !is_missed;
        self.readings = 0;
        false
    }

    async fn end(&mut self) {
        if let Some(renewer) = self.renewer.take() {
            renewer.end().await;
        }
        *self = Self { rests_until: self.rests_until, of: self.of, ..Self::default() };
    }
}

/// What one call works with.
struct Turn<'a> {
    instance: &'a InstanceRow,
    renewal: &'a Renewal,
    lease: WorkLease,
    end: Moment,
    stop: &'a CancellationToken,
}

impl Turn<'_> {
    fn is_over(&self) -> bool {
        self.stop.is_cancelled() || Moment::now() >= self.end
    }
}

impl Service {
    /// Goes by the keys of the instance's row, and does what is to be done where a root takes another's place, if it is this
    /// replica's turn. Called by a job, again and again.
    ///
    /// # Errors
    /// When the store, the log or the HSM fails: it is tried again.
    pub async fn renew_root(self: &Arc<Self>, pass: &mut Pass, stop: &CancellationToken) -> Result<(), ServiceError> {
        let instance = self.adopt(stop).await?;
        let stage = instance.renewal.as_ref().map_or(0.0, |renewal| f64::from(1 + renewal.stage as u8));
        metrics::gauge!(ROOT_STAGE).set(stage);
        let Some(renewal) = &instance.renewal else {
            pass.end().await;
            self.root_progress.clear();
            return Ok(());
        };
        if pass.rests_until.is_some_and(|until| until > Moment::now()) {
            return Ok(());
        }
        let own = self.own.name().await;
        let Some(lease) = self.store.take_lease(RENEWING, &own, RENEWING_FOR).await? else {
            // Who takes over begins anew.
            pass.end().await;
            self.root_progress.clear();
            return Ok(());
        };
        let of = Some((renewal.begun, renewal.other.root_id(), lease.token));
        if pass.of != of {
            // Another rotation, or others had the turn meanwhile: what was seen then says nothing.
            pass.end().await;
            pass.of = of;
        }
        let turn = Turn { instance: &instance, renewal, lease, end: Moment::now().after(SLICE), stop };
        let done = self.take_turn(pass, &turn).await;
        if let Err(error) = &done {
            self.root_progress.waits_for(error.to_string());
            pass.rests_until = Some(Moment::now().after(RETRY));
            pass.end().await;
        }
        done
    }

    async fn take_turn(self: &Arc<Self>, pass: &mut Pass, turn: &Turn<'_>) -> Result<(), ServiceError> {
        if !pass.begun {
            let behind = self.laggards(turn.instance).await?;
            if !behind.is_empty() {
                let names = behind.join(", ");
                self.root_progress.waits_for(format!("the workers of replica {names}, which go by other keys still"));
                return Ok(());
            }
            self.root_progress.waits_for("");
        }
        match turn.renewal.stage {
            Stage::Prepared => self.advance(turn, Some(Stage::Renewing)).await,
            Stage::Renewing => {
                if self.pass_on(pass, turn).await? {
                    self.advance(turn, Some(Stage::Retiring)).await?;
                    pass.end().await;
                }
                Ok(())
            }
            Stage::Retiring => {
                let (keys, root) = (turn.instance.worker_keys(), turn.renewal.other.root_id());
                let destroy = Provision::DestroyRoot { keys, root };
                let done = provision(self.pool.profile(), vec![destroy]).await.map_err(unopened)?;
                if !matches!(done[..], [Provisioned::Done]) {
                    return Err(Problem::Internal.into());
                }
                self.advance(turn, None).await
            }
        }
    }

    async fn advance(self: &Arc<Self>, turn: &Turn<'_>, to: Option<Stage>) -> Result<(), ServiceError> {
        // The row itself was sealed anew on the way.
        let from = self.adopt(turn.stop).await?.revision;
        let work = Advance { from, to, lease: turn.lease.clone() };
        let (caller, resource) = (self.itself(PRINCIPAL), turn.instance.resource());
        self.scheduled(&caller, resource, Scope::Service, work).await?;
        self.adopt(turn.stop).await.map(drop)
    }

    /// Carries over as much as there is time for. Says whether nothing is left.
    async fn pass_on(self: &Arc<Self>, pass: &mut Pass, turn: &Turn<'_>) -> Result<bool, ServiceError> {
        if !pass.begun {
            (pass.begun, pass.clean) = (true, true);
            let total = self.store.counts().await?.into_iter().map(|(_, rows)| rows).sum();
            self.root_progress.change(|progress| {
                (progress.rows, progress.renewed, progress.total) = (0, 0, total);
                progress.failed.clear();
            });
        }
        while !turn.is_over() {
            if pass.walk.is_none() {
                pass.walk = self.next_walk(pass).await?;
            }
            let Some(walk) = &mut pass.walk else {
                pass.clean &= self.renew_heads(pass, turn).await? && self.renew_beside().await?;
                let is_done = pass.clean;
                if !is_done {
                    pass.rests_until = Some(Moment::now().after(RETRY));
                    pass.end().await;
                }
                return Ok(is_done);
            };
            let (begun, page) = (Moment::now(), walk.page());
            let (rows, more) = self.rows_of(walk, turn.renewal.other.root_id()).await?;
            self.carry_over_all(pass, turn, rows).await?;
            if !pass.reads_again(page) && !more {
                self.end_walk(pass, turn).await?;
            }
            // A pause as long as the work took: whoever uses the HSM and the disk finds half of them free.
            let _ = tokio::time::timeout(Moment::now().since(begun), turn.stop.cancelled()).await;
        }
        Ok(false)
    }

    async fn next_walk(&self, pass: &mut Pass) -> Result<Option<Walk>, ServiceError> {
        loop {
            let deadline = Moment::now().after(PAGE_WITHIN);
            let (scope, vault) = if pass.service_done {
                let Some((vault, id)) = self.vault_after(pass.vault.as_ref()).await? else { return Ok(None) };
                pass.vault = Some(vault.clone());
                pass.vaults.insert(id);
                (HeadScope::Vault(id), Some(vault))
            } else {
                pass.service_done = true;
                (HeadScope::Service, None)
            };
            match self.catalog.scopes.cell(scope, deadline).await {
                Ok(cell) => {
                    // What others have written is newer than what is known here, and right.
                    self.catalog.scopes.catch_up(&cell, deadline).await?;
                    return Ok(Some(Walk::new(scope, vault, cell.rows())));
                }
                // One vault that was altered does not keep the others from being carried over.
                Err(error) if vault.is_some() && matches!(error.problem, Problem::Tampered { .. }) => {
                    pass.clean = false;
                    self.root_progress.fail(scope.to_string(), error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Heads of what has no rows any more: of vaults that were purged, whose names may be used again. And whether every vault was
    /// gone through that the service's scope counts.
    async fn renew_heads(self: &Arc<Self>, pass: &mut Pass, turn: &Turn<'_>) -> Result<bool, ServiceError> {
        let deadline = Moment::now().after(PAGE_WITHIN);
        let service = self.catalog.scopes.cell(HeadScope::Service, deadline).await?;
        let is_missed = |id: &RowId| id.kind == RowKind::Vault && !pass.vaults.contains(&id.id);
        let missed = service.rows().keys().filter(|id| is_missed(id)).count();
        if missed > 0 {
            self.root_progress
                .fail("vaults".to_owned(), format!("{missed} were made meanwhile or are hidden in the store"));
        }
        for head in self.store.heads().await? {
            let scope = head.unchecked().scope;
            if matches!(scope, HeadScope::Vault(id) if !pass.vaults.contains(&id)) {
                self.renew_head(&Walk::new(scope, None, HashMap::new()), turn).await?;
            }
        }
        Ok(missed == 0)
    }

    /// Seals the head of a scope anew, where no row was put back.
    async fn renew_head(self: &Arc<Self>, walk: &Walk, turn: &Turn<'_>) -> Result<(), ServiceError> {
        let Some(head) = self.store.head(&walk.scope).await? else { return Ok(()) };
        let deadline = Moment::now().after(PAGE_WITHIN);
        let seals = self.pool.seal(vec![head.unchecked().canonical()], deadline).await.map_err(outage)?;
        if seals.first() != Some(head.seal()) {
            self.put_back(walk, turn, Vec::new()).await?;
        }
        Ok(())
    }

    /// What was there when the walk began, is there still, and was not seen to be right, is left over. And the head has to be
    /// of the new sealing key too, where no row was put back.
    async fn end_walk(self: &Arc<Self>, pass: &mut Pass, turn: &Turn<'_>) -> Result<(), ServiceError> {
        let Some(walk) = pass.walk.take() else { return Ok(()) };
        let deadline = Moment::now().after(PAGE_WITHIN);
        let cell = self.catalog.scopes.cell(walk.scope, deadline).await?;
        let now = cell.rows();
        let left = walk.todo.iter().filter(|(id, seal)| now.get(id) == Some(seal)).count();
        if left > 0 {
            pass.clean = false;
            let name = walk.vault.as_ref().map_or_else(|| "the service".to_owned(), |vault| format!("vaults/{vault}"));
            self.root_progress.fail(name, format!("{left} rows are left under the old keys"));
        }
        self.renew_head(&walk, turn).await
    }

    /// Carries rows over, some at a time: what was done of a long page is not done in vain.
    async fn carry_over_all(
        self: &Arc<Self>,
        pass: &mut Pass,
        turn: &Turn<'_>,
        rows: Vec<Candidate>,
    ) -> Result<(), ServiceError> {
        let mut rows = rows.into_iter();
        loop {
            let some: Vec<_> = rows.by_ref().take(PUT_BACK_MAX).collect();
            if some.is_empty() {
                return Ok(());
            }
            self.carry_over(pass, turn, some).await?;
        }
    }

    /// Carries rows over: those that are not right already.
    async fn carry_over(
        self: &Arc<Self>,
        pass: &mut Pass,
        turn: &Turn<'_>,
        rows: Vec<Candidate>,
    ) -> Result<(), ServiceError> {
        let deadline = Moment::now().after(PAGE_WITHIN);
        let count = rows.len() as u64;
        let old = self.not_right_yet(pass, rows, deadline).await?;
        let kept = self.renewed_keys(pass, turn, old).await?;
        let renewed = kept.len() as u64;
        let keys: HashSet<RowId> = kept.iter().filter(|row| row.key.is_some()).map(|row| row.id.clone()).collect();
        let rows: Vec<_> = kept.into_iter().map(|candidate| (candidate.seal, candidate.next)).collect();
        if let Some(walk) = pass.walk.as_mut().filter(|_| !rows.is_empty()) {
            let put_back = self.put_back(walk, turn, rows).await?;
            for id in &put_back {
                walk.todo.remove(id);
            }
            pass.is_missed |= !keys.iter().all(|id| put_back.contains(id));
        }
        self.root_progress.change(|progress| {
            progress.rows += count;
            progress.renewed += renewed;
        });
        metrics::counter!(ROOT_ROWS).increment(renewed);
        Ok(())
    }

    /// The rows of a page whose seal, or whose key, is of the old root. What was changed meanwhile was changed by the new one.
    async fn not_right_yet(
        &self,
        pass: &mut Pass,
        rows: Vec<Candidate>,
        deadline: Moment,
    ) -> Result<Vec<Candidate>, ServiceError> {
        let Some(walk) = &mut pass.walk else { return Ok(Vec::new()) };
        let cell = self.catalog.scopes.cell(walk.scope, deadline).await?;
        let seals =
            self.pool.seal(rows.iter().map(|row| row.form.clone()).collect(), deadline).await.map_err(outage)?;
        let mut old = Vec::new();
        for (row, seal) in rows.into_iter().zip(seals) {
            if seal == row.seal && row.key.is_none() {
                walk.todo.remove(&row.id);
            } else if cell.is_newest(&row.id, &row.seal) {
                old.push((row, seal));
            } else if row.key.is_some() {
                pass.is_missed = true;
            }
        }
        // Nobody's alteration is sealed: a row is carried over for its seal.
        let pairs: Vec<(Vec<u8>, Seal)> = old.iter().map(|(row, _)| (row.form.clone(), row.seal)).collect();
        let right = self.pool.check_seals(pairs, deadline).await.map_err(outage)?;
        let mut kept = Vec::with_capacity(old.len());
        for ((mut row, seal), right) in old.into_iter().zip(right) {
            if right {
                row.is_sealed = seal == row.seal;
                kept.push(row);
            } else {
                pass.clean = false;
                self.root_progress.fail(row.name, "the row does not match its seal: the store was altered".to_owned());
            }
        }
        Ok(kept)
    }

    /// Those rows, and in them the keys under the new root; what is right as it is, and what could not be carried over, is left
    /// out of them.
    async fn renewed_keys(
        &self,
        pass: &mut Pass,
        turn: &Turn<'_>,
        rows: Vec<Candidate>,
    ) -> Result<Vec<Candidate>, ServiceError> {
        let keys: Vec<_> = rows.iter().filter_map(|row| row.key.clone()).collect();
        let mut renewed = self.renew_all(pass, turn, &keys).await?.into_iter();
        let root = turn.renewal.other.root_id();
        let mut kept = Vec::with_capacity(rows.len());
        for mut row in rows {
            let Some(key) = row.key.clone() else {
                kept.push(row);
                continue;
            };
            let is_under = row.is_under(root);
            let changes = match renewed.next().unwrap_or_else(|| Err(Fault::Protocol.to_string())) {
                Ok(Some(renewed)) => {
                    let changes = is_under || *renewed.check_value != key.statement.check_value;
                    take_in(&mut row.next, renewed, turn.instance, is_under);
                    changes
                }
                // It is gone from the token, and was under neither root: there is nothing to prove or to lose.
                Ok(None) if !is_under => false,
                Ok(None) => return Err(Problem::Internal.into()),
                Err(why) => {
                    pass.clean = false;
                    self.root_progress.fail(row.name, why);
                    continue;
                }
            };
            if changes || !row.is_sealed {
                kept.push(row);
            } else if let Some(walk) = &mut pass.walk {
                walk.todo.remove(&row.id);
            }
        }
        Ok(kept)
    }

    /// What the worker makes of each: nothing where the key is not on the token any more. Where it is lost, each is given to one
    /// of its own, so that what loses workers is named and keeps nobody else from being carried over.
    async fn renew_all(
        &self,
        pass: &mut Pass,
        turn: &Turn<'_>,
        keys: &[Arc<KeyRow>],
    ) -> Result<Vec<Result<Option<Renewed>, String>>, ServiceError> {
        let read = |answer: Result<Renewed, Fault>| match answer {
            Ok(renewed) => Ok(Some(renewed)),
            Err(Fault::KeyAbsent | Fault::KekAbsent) => Ok(None),
            Err(fault) => Err(fault.to_string()),
        };
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut renewer = self.renewer(pass, turn).await?;
        if let Ok(answers) = renewer.renew(keys).await {
            pass.renewer = Some(renewer);
            return Ok(answers.into_iter().map(read).collect());
        }
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            let mut renewer = self.renewer(pass, turn).await?;
            match renewer.renew(std::slice::from_ref(key)).await {
                Ok(mut answers) => {
                    pass.renewer = Some(renewer);
                    all.push(read(answers.pop().unwrap_or(Err(Fault::Protocol))));
                }
                Err(error) => all.push(Err(error.to_string())),
            }
        }
        Ok(all)
    }

    /// The worker that carries keys over; another where it has carried over very many.
    async fn renewer(&self, pass: &mut Pass, turn: &Turn<'_>) -> Result<Renewer, ServiceError> {
        if let Some(renewer) = pass.renewer.take() {
            if renewer.rows() < RENEWER_ROWS_MAX {
                return Ok(renewer);
            }
            renewer.end().await;
        }
        let file = self.recovery_key_file(turn.instance)?;
        let renewing =
            Renewing { keys: turn.instance.worker_keys(), recovery: opener(file, &turn.renewal.other.escrow) };
        Renewer::start(self.pool.profile(), renewing).await.map_err(unopened)
    }

    /// Puts rows back in one change; says which.
    async fn put_back(
        self: &Arc<Self>,
        walk: &Walk,
        turn: &Turn<'_>,
        rows: Vec<(Seal, NewRow)>,
    ) -> Result<Vec<RowId>, ServiceError> {
        let has_issuer_key = rows.iter().any(|(_, row)| matches!(row, NewRow::IssuerKey(_)));
        let scope = walk.vault.as_ref().map_or(Scope::Service, Scope::keys);
        let work = PutBack { scope: walk.scope, rows, lease: turn.lease.clone() };
        let caller = self.itself(PRINCIPAL);
        let done = self.scheduled(&caller, walk.resource(turn.instance), scope, work).await?;
        if has_issuer_key {
            self.load_issuer_key(caller.deadline).await?;
        }
        Ok(done)
    }
}

/// What was carried over, in the row that is to be.
fn take_in(row: &mut NewRow, renewed: Renewed, instance: &InstanceRow, was_under: bool) {
    let root = instance.service_keys.root.map(|root| VersionId::from_bytes(root.id));
    match row {
        NewRow::Version(row) => {
            row.blob = renewed.blob.into_vec();
            row.check_value = renewed.check_value.into_vec();
            row.kek = if was_under { root } else { row.kek };
        }
        NewRow::Secret(row) => {
            row.blob = renewed.blob.into_vec();
            row.check_value = renewed.check_value.into_vec();
            row.kek = if was_under { root } else { row.kek };
        }
        NewRow::IssuerKey(row) => {
            row.blob = renewed.blob.into_vec();
            row.kek = if was_under { root } else { row.kek };
        }
        _ => {}
    }
}

/// Goes to the next stage, or to the end.
struct Advance {
    /// The revision of the instance's row that the stage before is of.
    from: u64,
    to: Option<Stage>,
    lease: WorkLease,
}

impl Advance {
    fn next(&self, old: &InstanceRow) -> Result<InstanceRow, ServiceError> {
        let moved = || Problem::Changed { name: "root".to_owned() };
        if old.revision != self.from {
            return Err(moved().into());
        }
        let Renewal { stage, other, begun } = old.renewal.clone().ok_or_else(moved)?;
        let next = match (stage, self.to) {
            (Stage::Prepared, Some(Stage::Renewing)) => {
                let renewal = Some(Renewal { stage: Stage::Renewing, other: old.generation(), begun });
                InstanceRow { renewal, ..old.on(other) }
            }
            (Stage::Renewing, Some(Stage::Retiring)) => {
                InstanceRow { renewal: Some(Renewal { stage: Stage::Retiring, other, begun }), ..old.clone() }
            }
            (Stage::Retiring, None) => InstanceRow { renewal: None, ..old.clone() },
            _ => return Err(moved().into()),
        };
        Ok(InstanceRow { revision: old.revision + 1, ..next })
    }
}

impl Work for Advance {
    type Op = ops::OwnKeysRotateRoot;
    type Out = ();

    fn detail(&self) -> Option<String> {
        Some(self.to.map_or_else(|| "done: the old root is destroyed".to_owned(), |stage| stage.name().to_owned()))
    }

    async fn check(&self, service: &Service, _: &Permit<Self::Op>, context: &Context) -> Result<(), ServiceError> {
        let old = service.catalog.instance(context.caller.deadline).await?;
        self.next(&old).map(drop)
    }

    async fn apply(
        &self,
        service: &Service,
        _: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<()>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (old, seal) = service.catalog.sealed_instance(deadline).await?;
        let put = Put::replace(&old, seal, NewRow::Instance(Box::new(self.next(&old)?)));
        let (name, right, intent) = (Self::Op::ACTION.name(), &self.lease, context.intent);
        let making = Making { name, right, intent, request: None, deadline };
        let committed = service.catalog.scopes.commit(&locked, making, vec![put]).await?;
        Ok(Applied { out: (), heads: vec![committed.mark] })
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<(), ServiceError> {
        Ok(())
    }
}
