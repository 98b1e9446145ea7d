//! Lets tests stop or fail an execution at the moments that matter.

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::execution::Moment;

type Hook = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// What is done when an execution reaches a moment, once.
#[derive(Default)]
pub struct Faults(Mutex<Option<(Moment, Hook)>>);

impl Faults {
    /// Does something at the next execution that reaches a moment.
    pub fn at(
        &self,
        moment: Moment,
        hook: impl FnOnce() -> BoxFuture<'static, ()> + Send + 'static,
    ) {
        *self.0.lock() = Some((moment, Box::new(hook)));
    }

    pub async fn reached(&self, moment: Moment) {
        let hook = {
            let mut armed = self.0.lock();
            match armed.take() {
                Some((at, hook)) if at == moment => Some(hook),
                other => {
                    *armed = other;
                    None
                }
            }
        };
        if let Some(hook) = hook {
            hook().await;
        }
    }
}
