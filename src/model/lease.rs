//! Whether an authentication still holds: until a moment, and until it is ended. Shared by everyone who acts on it,
//! so that ending it stops an open stream and queued work too.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use strongroom_hsm::protocol::Moment;

/// Whether an authentication still holds. Clones are of one lease.
#[derive(Clone, Debug)]
pub struct Lease(Arc<LeaseState>);

#[derive(Debug)]
struct LeaseState {
    until: Option<Moment>,
    ended: AtomicBool,
    /// What it stands on: ends with that.
    on: Option<Lease>,
    waiting: Mutex<Waiting>,
}

/// Who is to hear of the end.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Lease {
    /// Holds until that moment, or, without one, until it is ended.
    #[must_use]
    pub fn until(until: Option<Moment>) -> Self {
        Self::new(until, None)
    }

    /// Holds until that moment, until it is ended, and no longer than `on`: a token stands on the key that signed
    /// it.
    #[must_use]
    pub fn on(on: &Self, until: Option<Moment>) -> Self {
        Self::new(until, Some(on.clone()))
    }

    fn new(until: Option<Moment>, on: Option<Self>) -> Self {
        Self(Arc::new(LeaseState { until, ended: AtomicBool::new(false), on, waiting: Mutex::default() }))
    }

    /// Holds no more, from now on: what it stood on was taken back.
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::Release);
        let wakers = std::mem::take(&mut self.0.waiting().wakers);
        wakers.into_values().for_each(Waker::wake);
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        let in_time = || self.0.until.is_none_or(|until| Moment::now() < until);
        !self.0.ended.load(Ordering::Acquire) && in_time() && self.0.on.as_ref().is_none_or(Self::holds)
    }

    /// The moment at which it ends by itself, if there is one.
    #[must_use]
    pub fn last_moment(&self) -> Option<Moment> {
        let on = self.0.on.as_ref().and_then(Self::last_moment);
        self.0.until.into_iter().chain(on).min()
    }

    /// Comes when it is ended. That its time is over it does not notice: whoever waits has a timer for
    /// [`Self::last_moment`].
    #[must_use]
    pub fn ended(&self) -> Ended {
        let on = self.0.on.as_ref().map(|on| Box::new(on.ended()));
        Ended { lease: Arc::clone(&self.0), place: None, on }
    }
}

impl LeaseState {
    /// What is in it is right at every moment, whoever panicked.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Comes when a lease is ended.
#[derive(Debug)]
pub struct Ended {
    lease: Arc<LeaseState>,
    place: Option<u64>,
    /// Comes when what it stands on is ended.
    on: Option<Box<Ended>>,
}

impl Future for Ended {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.on.as_mut().is_some_and(|on| Pin::new(on).poll(cx).is_ready()) {
            return Poll::Ready(());
        }
        let mut waiting = this.lease.waiting();
        // Under the lock: who ends it takes the wakers after the flag is set.
        if this.lease.ended.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let place = *this.place.get_or_insert_with(|| {
            waiting.next += 1;
            waiting.next
        });
        waiting.wakers.insert(place, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.lease.waiting().wakers.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Wake, time::Duration};

    use super::*;

    #[test]
    fn a_lease_ends_at_its_moment_or_when_it_is_ended() {
        assert!(Lease::until(None).holds());
        assert!(Lease::until(Some(Moment::now().after(Duration::from_secs(60)))).holds());
        assert!(!Lease::until(Some(Moment::now())).holds());
        let lease = Lease::until(None);
        let other = lease.clone();
        assert!(lease.holds());
        other.end();
        assert!(!lease.holds());
    }

    #[test]
    fn a_lease_ends_with_what_it_stands_on() {
        let (key, other) = (Lease::until(None), Lease::until(None));
        let (token, kept) = (Lease::on(&key, None), Lease::on(&other, None));
        let bell = Arc::new(Bell(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&bell));
        let mut cx = Context::from_waker(&waker);
        let mut ended = token.ended();
        assert!(token.holds() && kept.holds() && Pin::new(&mut ended).poll(&mut cx).is_pending());
        key.end();
        assert!(!token.holds() && kept.holds());
        assert!(bell.0.load(Ordering::SeqCst) && Pin::new(&mut ended).poll(&mut cx).is_ready());
        let soon = Moment::now();
        assert!(!Lease::on(&other, Some(soon)).holds());
        assert_eq!(Lease::on(&Lease::until(Some(soon)), None).last_moment(), Some(soon));
    }

    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn everybody_who_waits_hears_of_the_end_and_nobody_is_kept_who_went_away() {
        let lease = Lease::until(None);
        let bell = Arc::new(Bell(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&bell));
        let mut cx = Context::from_waker(&waker);
        let (mut first, mut gone) = (lease.ended(), lease.ended());
        assert!(Pin::new(&mut first).poll(&mut cx).is_pending() && Pin::new(&mut gone).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut first).poll(&mut cx).is_pending());
        assert_eq!(lease.0.waiting().wakers.len(), 2, "one place each");
        drop(gone);
        assert_eq!(lease.0.waiting().wakers.len(), 1);
        lease.end();
        assert!(bell.0.load(Ordering::SeqCst));
        assert!(Pin::new(&mut first).poll(&mut cx).is_ready());
        assert!(Pin::new(&mut lease.ended()).poll(&mut cx).is_ready(), "also who comes later");
    }
}
