//! Where the vault is, how to talk to it, and how checks are counted and printed.

use std::{env, fs, net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    http::{ClientOptions, ExponentialRetryOptions, RetryOptions, StatusCode, Transport},
    time::OffsetDateTime,
};
use reqwest::{Certificate, Client};

/// The vault, and what its clients are made with.
pub(crate) struct Vault {
    pub(crate) url: String,
    pub(crate) credential: Arc<dyn TokenCredential>,
    /// Only a host without a parent domain needs it off.
    pub(crate) verify_challenge_resource: bool,
    http: Client,
    skipped: Vec<String>,
    run: String,
}

impl Vault {
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let wanted = |name| env::var(name).with_context(|| format!("{name}: source the env file of `strongroom dev`"));
        let url = wanted("AKV_URL")?.trim_end_matches('/').to_owned();
        let host = reqwest::Url::parse(&url)?.host_str().context("AKV_URL has no host")?.to_owned();
        let mut http = Client::builder().timeout(Duration::from_secs(30));
        if let Ok(file) = env::var("AKV_CA") {
            http = http.tls_certs_only(Certificate::from_pem_bundle(&fs::read(file)?)?);
        }
        let mut run = [0; 4];
        aws_lc_rs::rand::fill(&mut run)?;
        Ok(Self {
            verify_challenge_resource: host != "localhost" && host.parse::<IpAddr>().is_err(),
            credential: Arc::new(Static(wanted("AKV_TOKEN")?)),
            http: http.build()?,
            skipped: env::var("AKV_SKIP").unwrap_or_default().split(',').map(str::to_owned).collect(),
            run: format!("{:08x}", u32::from_be_bytes(run)),
            url,
        })
    }

    /// Our CA, and few and short repetitions.
    pub(crate) fn options(&self) -> ClientOptions {
        let retry = ExponentialRetryOptions { max_retries: 2, ..ExponentialRetryOptions::default() };
        ClientOptions {
            transport: Some(Transport::new(Arc::new(self.http.clone()))),
            retry: RetryOptions::exponential(retry),
            ..ClientOptions::default()
        }
    }

    pub(crate) fn skipped(&self, group: &str) -> bool {
        self.skipped.iter().any(|skipped| skipped == group)
    }

    /// A name that no other run has.
    pub(crate) fn named(&self, what: &str) -> String {
        format!("rust-{}-{what}", self.run)
    }

    /// What every name of this run begins with.
    pub(crate) fn is_ours(&self, name: &str) -> bool {
        name.starts_with(&self.named(""))
    }
}

/// The smallest credential: always the same token.
#[derive(Debug)]
pub(crate) struct Static(pub(crate) String);

#[async_trait::async_trait]
impl TokenCredential for Static {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new(self.0.clone(), OffsetDateTime::now_utc() + Duration::from_secs(3600)))
    }
}

#[derive(Default)]
pub(crate) struct Checks {
    passed: u32,
    failed: u32,
}

impl Checks {
    /// One check: a line, and a count. The checks after it run whatever comes of it.
    pub(crate) async fn check<T>(&mut self, what: &str, body: impl Future<Output = anyhow::Result<T>>) -> Option<T> {
        match body.await {
            Ok(found) => {
                self.passed += 1;
                println!("ok    {what}");
                Some(found)
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL  {what}: {}", format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" "));
                None
            }
        }
    }

    /// The last line.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        println!("{} passed, {} failed", self.passed, self.failed);
        ensure!(self.failed == 0 && self.passed > 0, "not everything passed");
        Ok(())
    }
}

/// The answer must be this refusal, with this code unless it is empty.
pub(crate) fn refused<T>(answer: azure_core::Result<T>, status: StatusCode, code: &str) -> anyhow::Result<()> {
    let Err(error) = answer else { bail!("not refused, wanted {status} {code}") };
    let azure_core::error::ErrorKind::HttpResponse { status: found, error_code, .. } = error.kind() else {
        bail!("wanted {status} {code}, got {error}")
    };
    let same_code = code.is_empty() || error_code.as_deref() == Some(code);
    ensure!(*found == status && same_code, "wanted {status} {code}, got {error}");
    Ok(())
}

/// Asks until it is answered: what is deleted or recovered may take a moment to be seen.
pub(crate) async fn eventually<T>(ask: impl AsyncFn() -> azure_core::Result<T>) -> azure_core::Result<T> {
    for _ in 0..50 {
        if let Ok(found) = ask().await {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ask().await
}

/// Collects a list's pages, `page` saying what is in one; how many there were. None may hold more than 25.
macro_rules! pages {
    ($pager:expr) => {{
        let (mut items, mut count) = (Vec::new(), 0);
        let mut pages = $pager.into_pages();
        while let Some(page) = futures_util::TryStreamExt::try_next(&mut pages).await? {
            let page = page.into_model()?.value;
            anyhow::ensure!(page.len() <= 25, "a page of {}", page.len());
            items.extend(page);
            count += 1;
        }
        (items, count)
    }};
}
pub(crate) use pages;
