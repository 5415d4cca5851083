//! Causes of the core and stable codes of the wire, one to one.

use quorate_client::wire::Code;

use crate::core::Cause;

/// The code under which `cause` travels.
#[must_use]
pub fn code_of(cause: Cause) -> Code {
    match cause {
        Cause::QuorumNotReached => Code::QuorumNotReached,
        Cause::Unavailable => Code::Unavailable,
        Cause::DeadlineExceeded => Code::DeadlineExceeded,
        Cause::Overloaded => Code::Overloaded,
        Cause::DiskFull => Code::DiskFull,
        Cause::GuestsFull => Code::GuestsFull,
        Cause::CopyLost => Code::CopyLost,
        Cause::NotReady => Code::NotReady,
        Cause::ShuttingDown => Code::ShuttingDown,
        Cause::EpochMismatch => Code::EpochMismatch,
        Cause::KeyInvalid => Code::KeyInvalid,
        Cause::ValueTooLarge => Code::ValueTooLarge,
        Cause::TooManySiblings => Code::TooManySiblings,
        Cause::RecordTooLarge => Code::RecordTooLarge,
        Cause::ContextFull => Code::ContextFull,
        Cause::KeyspaceUnknown => Code::KeyspaceUnknown,
        Cause::LevelImpossible => Code::LevelImpossible,
        Cause::ContextInvalid => Code::ContextInvalid,
        Cause::AttemptTooOld => Code::AttemptTooOld,
        Cause::BelowFloor => Code::BelowFloor,
        Cause::PayloadUnsupported => Code::PayloadUnsupported,
        Cause::Damaged => Code::Damaged,
        Cause::OperationNotSeen => Code::OperationNotSeen,
        Cause::SessionBehind => Code::SessionBehind,
        Cause::ContextAhead => Code::ContextAhead,
        Cause::WrongMode => Code::WrongMode,
        Cause::TtlInvalid => Code::TtlInvalid,
        Cause::StampAhead => Code::StampAhead,
        Cause::ClockOff => Code::ClockOff,
        Cause::ScanTokenInvalid => Code::ScanTokenInvalid,
        Cause::RangeInvalid => Code::RangeInvalid,
        Cause::BatchTooLarge => Code::BatchTooLarge,
        Cause::BatchItemRepeated => Code::BatchItemRepeated,
        Cause::BatchAnswerFull => Code::BatchAnswerFull,
    }
}

/// The cause that travels under `code`; `None` for codes that only clients see, and for those of a
/// newer release.
#[must_use]
pub fn cause_of(code: Code) -> Option<Cause> {
    Some(match code {
        Code::QuorumNotReached => Cause::QuorumNotReached,
        Code::Unavailable => Cause::Unavailable,
        Code::DeadlineExceeded => Cause::DeadlineExceeded,
        Code::Overloaded => Cause::Overloaded,
        Code::DiskFull => Cause::DiskFull,
        Code::GuestsFull => Cause::GuestsFull,
        Code::CopyLost => Cause::CopyLost,
        Code::NotReady => Cause::NotReady,
        Code::ShuttingDown => Cause::ShuttingDown,
        Code::EpochMismatch => Cause::EpochMismatch,
        Code::KeyInvalid => Cause::KeyInvalid,
        Code::ValueTooLarge => Cause::ValueTooLarge,
        Code::TooManySiblings => Cause::TooManySiblings,
        Code::RecordTooLarge => Cause::RecordTooLarge,
        Code::ContextFull => Cause::ContextFull,
        Code::KeyspaceUnknown => Cause::KeyspaceUnknown,
        Code::LevelImpossible => Cause::LevelImpossible,
        Code::ContextInvalid => Cause::ContextInvalid,
        Code::AttemptTooOld => Cause::AttemptTooOld,
        Code::BelowFloor => Cause::BelowFloor,
        Code::PayloadUnsupported => Cause::PayloadUnsupported,
        Code::Damaged => Cause::Damaged,
        Code::OperationNotSeen => Cause::OperationNotSeen,
        Code::SessionBehind => Cause::SessionBehind,
        Code::ContextAhead => Cause::ContextAhead,
        Code::WrongMode => Cause::WrongMode,
        Code::TtlInvalid => Cause::TtlInvalid,
        Code::StampAhead => Cause::StampAhead,
        Code::ClockOff => Cause::ClockOff,
        Code::ScanTokenInvalid => Cause::ScanTokenInvalid,
        Code::RangeInvalid => Cause::RangeInvalid,
        Code::BatchTooLarge => Cause::BatchTooLarge,
        Code::BatchItemRepeated => Cause::BatchItemRepeated,
        Code::BatchAnswerFull => Cause::BatchAnswerFull,
        // Codes without a cause, and, because the enum may grow, those that are not known here.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_and_codes_are_one_to_one() {
        let mut causes: Vec<Cause> = Code::ALL
            .iter()
            .filter_map(|code| cause_of(*code))
            .collect();
        for code in Code::ALL {
            if let Some(cause) = cause_of(*code) {
                assert_eq!(code_of(cause), *code);
            }
        }
        causes.sort_unstable();
        causes.dedup();
        assert_eq!(causes.len(), 34, "every cause has a code");
    }
}
