//! Where records come from: a server, or the folder of a log or of a copy, which is read from end to end.

use std::path::{Path, PathBuf};

use clap::Args;
use strongroom_proto::v1::{
    AuditFilter, AuditRecord, ListAuditRecordsRequest, ListAuditRecordsResponse, StreamAuditRecordsRequest,
};

use super::filter::action;
use crate::{
    audit::{
        Reader,
        index::{FoundRecord, IndexError, LIMIT_MAX, Order, Page, Query, scan},
        prove::Prover,
        tlog::{Checkpoint, SignedNote},
    },
    cli::{client::Client, connection::ConnectionArgs, failure::Failure},
    grpc,
};

/// `--log`.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Read the log in this folder, or a copy, instead of asking a server: up to its checkpoint, and nothing is verified
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Where they come from.
pub(super) enum Source {
    /// A server.
    Server(Client),
    /// A folder.
    Folder(Folder),
}

/// A log in a folder.
pub(super) struct Folder {
    reader: Reader,
    size: u64,
}

/// What a list came to.
pub(super) struct Listing {
    pub(super) records: Vec<AuditRecord>,
    /// There are more.
    pub(super) is_cut: bool,
    pub(super) pruned_bundles: u64,
    /// So many records were there to be looked at.
    pub(super) readable: u64,
}

impl LogArgs {
    /// The source that is meant.
    pub(super) async fn source(&self, connection: &ConnectionArgs) -> anyhow::Result<Source> {
        match &self.log {
            Some(dir) => Ok(Source::Folder(Folder::open(dir)?)),
            None => Ok(Source::Server(connection.connect().await?)),
        }
    }

    /// The same, for a command that takes as long as there is something to read.
    pub(super) async fn source_for_long(&self, connection: &ConnectionArgs) -> anyhow::Result<Source> {
        match &self.log {
            Some(dir) => Ok(Source::Folder(Folder::open(dir)?)),
            None => Ok(Source::Server(connection.connect_for_long().await?)),
        }
    }
}

impl Source {
    /// Records, newest first.
    pub(super) async fn newest(&self, filter: &AuditFilter, limit: usize) -> anyhow::Result<Listing> {
        match self {
            Self::Server(client) => newest(client, filter, limit).await,
            Self::Folder(folder) => folder.newest(filter, limit),
        }
    }

    /// One record.
    pub(super) async fn record(&self, index: u64) -> anyhow::Result<AuditRecord> {
        match self {
            Self::Server(client) => {
                let action = action(&format!("show record {index}"), &AuditFilter::default());
                Ok(client.call(&action, client.api.get_audit_record(&format!("auditRecords/{index}"))).await?)
            }
            Self::Folder(folder) => folder.record(index),
        }
    }

    /// Gives every record from an index on to `take`, oldest first. Returns where the next would be.
    pub(super) async fn every(
        &self,
        filter: &AuditFilter,
        from: u64,
        mut take: impl FnMut(&AuditRecord) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let client = match self {
            Self::Server(client) => client,
            Self::Folder(folder) => return folder.every(filter, from, take),
        };
        let action = action("export records", filter);
        let request =
            StreamAuditRecordsRequest { filter: Some(filter.clone()), start_index: Some(from), follow: false };
        let mut stream = client.call(&action, client.api.stream_audit_records(request)).await?;
        let mut next = from;
        while let Some(message) = client.call(&action, stream.next()).await? {
            message.records.iter().try_for_each(&mut take)?;
            next = message.next_index;
        }
        Ok(next)
    }
}

async fn newest(client: &Client, filter: &AuditFilter, limit: usize) -> anyhow::Result<Listing> {
    let action = action("list records", filter);
    let mut listing = Listing { records: Vec::new(), is_cut: false, pruned_bundles: 0, readable: 0 };
    let mut page_token = String::new();
    loop {
        let wanted = (limit - listing.records.len()).min(LIMIT_MAX);
        let request = ListAuditRecordsRequest {
            filter: Some(filter.clone()),
            page_size: i32::try_from(wanted)?,
            page_token,
            oldest_first: false,
        };
        let ListAuditRecordsResponse { records, next_page_token, readable, pruned_bundles } =
            client.call(&action, client.api.list_audit_records(request)).await?;
        // The first page is of the newest: what came since is not in the list.
        if listing.readable == 0 {
            listing.readable = readable;
        }
        listing.records.extend(records);
        listing.pruned_bundles += pruned_bundles;
        listing.is_cut = !next_page_token.is_empty();
        if !listing.is_cut || listing.records.len() >= limit {
            return Ok(listing);
        }
        page_token = next_page_token;
    }
}

impl Folder {
    fn open(dir: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read the log in {}", dir.display());
        let explain = |error: &dyn std::fmt::Display| {
            Failure::new(format!("{}: {error}", cannot()))
                .hint("name the folder that has `checkpoint` and `tile`: that of [audit] dir, or of a copy")
        };
        let note = Prover::new(dir).extension(0).map_err(|error| explain(&error))?.note;
        let note = SignedNote::parse(note.as_bytes()).map_err(|error| explain(&error))?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(|error| explain(&error))?;
        Ok(Self { reader: Reader::new(dir), size: checkpoint.size() })
    }

    fn newest(&self, filter: &AuditFilter, limit: usize) -> anyhow::Result<Listing> {
        let query = grpc::audit_query(Some(filter.clone()))?;
        let mut listing = Listing { records: Vec::new(), is_cut: false, pruned_bundles: 0, readable: self.size };
        let mut page = Page { order: Order::NewestFirst, after: None, limit };
        loop {
            page.limit = limit - listing.records.len();
            let found = self.scan(&query, &page)?;
            listing.records.extend(found.0);
            listing.pruned_bundles += found.1;
            listing.is_cut = found.2.is_some();
            if !listing.is_cut || listing.records.len() >= limit {
                return Ok(listing);
            }
            page.after = found.2;
        }
    }

    fn record(&self, index: u64) -> anyhow::Result<AuditRecord> {
        let entry = self.reader.entry(index, self.size).map_err(|error| Failure::new(error.to_string()))?;
        let record = serde_json::from_slice(&entry).map_err(|_| {
            Failure::new(format!("entry {index} is not a record")).hint("strongroom audit verify --log DIR")
        })?;
        Ok(grpc::audit_record(FoundRecord { index, record, entry }))
    }

    fn every(
        &self,
        filter: &AuditFilter,
        from: u64,
        mut take: impl FnMut(&AuditRecord) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let query = grpc::audit_query(Some(filter.clone()))?;
        let mut page = Page { order: Order::OldestFirst, after: from.checked_sub(1), limit: LIMIT_MAX };
        loop {
            let (records, pruned, next) = self.scan(&query, &page)?;
            if pruned > 0 {
                let message =
                    format!("{pruned} bundles from record {} on were pruned", page.after.map_or(0, |last| last + 1));
                return Err(Failure::new(message)
                    .hint("bring them back from the archive, or begin later with --from-index")
                    .into());
            }
            records.iter().try_for_each(&mut take)?;
            let Some(next) = next else { return Ok(self.size.max(from)) };
            page.after = Some(next);
        }
    }

    /// Records, how many bundles are gone, and where it goes on.
    fn scan(&self, query: &Query, page: &Page) -> anyhow::Result<(Vec<AuditRecord>, u64, Option<u64>)> {
        let found =
            scan(&self.reader, self.size, query, page).map_err(|error: IndexError| Failure::new(error.to_string()))?;
        Ok((found.records.into_iter().map(grpc::audit_record).collect(), found.pruned, found.next))
    }
}
