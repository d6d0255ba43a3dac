//! Who asks something of an account: the holder of one of its keys, or of a token that was signed with one.

use std::net::IpAddr;

use base::Key as AccountKey;

use crate::account::Account;
use crate::error::Error;
use crate::sas::{Permission, Refusal, Sas, Target, Use};

/// Somebody whose signature is good. What he may do each operation asks in its first line.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Everything.
    Key,
    Sas {
        sas: Box<Sas>,
        is_https: bool,
        peer: IpAddr,
    },
}

impl Caller {
    /// A header that a token sets in answers to reads.
    pub fn overridden_header(&self, field: &str) -> Option<&str> {
        match self {
            Self::Key => None,
            Self::Sas { sas, .. } => sas.overridden_header(field),
        }
    }
}

impl Account {
    /// Any of the permissions is enough.
    pub async fn permit(&self, caller: &Caller, target: Target<'_>, any: &[Permission]) -> Result<(), Error> {
        let Caller::Sas { sas, is_https, peer } = caller else { return Ok(()) };
        let container = match target {
            Target::Service => None,
            Target::Container(container) | Target::Blob(container, _) => Some(container),
        };
        let policy = match (sas.policy_id(), container) {
            (Some(id), Some(container)) => self.policy(container, id).await?,
            _ => None,
        };
        let settings = self.settings();
        let keys: [&AccountKey; 2] = [&settings.keys[0], &settings.keys[1]];
        let wanted = Use {
            account: self.name(),
            target,
            permissions: any,
            is_https: *is_https,
            peer: *peer,
            now: self.clock().now(),
            policy: policy.as_ref(),
        };
        Ok(sas.check(keys, wanted)?)
    }

    /// The same for what no token of a container or a blob lets anybody do.
    pub(crate) async fn permit_by_account(
        &self,
        caller: &Caller,
        target: Target<'_>,
        any: &[Permission],
    ) -> Result<(), Error> {
        self.permit(caller, target, any).await?;
        match caller {
            Caller::Sas { sas, .. } if !sas.is_of_account() => Err(Refusal::Permission.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn permit_key(caller: &Caller) -> Result<(), Error> {
        match caller {
            Caller::Key => Ok(()),
            Caller::Sas { .. } => Err(Refusal::Permission.into()),
        }
    }
}
