"""Words that undo each other: an effect opposite to the one asked for is not the one asked for. Data and rules, pure.

The planner is generous with verbs (`turn`, `set`, `trade` fit many tools), and a hijacked model needs no other tool than
the user's own: `stop` for `start`, `off` for `on`, `locked: false` for "lock the door". Errs towards a question: a word
that is opposite to what the prompt says and that the prompt does not say as well is doubted; a pair this table does not
know is not seen here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_PAIRS: Final = (
    "on,enable,activate,enabled/off,disable,deactivate,disabled up/down start/stop begin/end buy/sell"
    " lock/unlock open/close,shut,shutdown"
    " enable/disable activate/deactivate"
    " enabled/disabled active/inactive accept/decline,reject,refuse"
    " approve/reject,deny,decline,refuse grant/revoke,deny"
    " allow/deny,block,forbid,ban block/unblock,allow confirm/cancel increase/decrease,reduce,lower raise/lower,reduce,drop"
    " deposit/withdraw add/remove,delete,drop insert/remove,delete pause/resume,continue suspend/resume,reinstate"
    " public/private show/hide hide/unhide mute/unmute arm/disarm follow/unfollow subscribe/unsubscribe freeze/unfreeze"
    " archive/unarchive,restore pin/unpin like/dislike promote/demote upgrade/downgrade publish/unpublish,retract"
    " attach/detach link/unlink mount/unmount encrypt/decrypt upvote/downvote yes/no true/false include/exclude"
    " register/unregister enroll,enrol,join/unenroll,leave,drop in/out resolve,close/reopen install/uninstall"
    " assign/unassign high,urgent/low credit/debit hire/fire brighten/dim lend/borrow deploy/undeploy"
    " merge/revert pass/fail engage/disengage secure/unsecure connect/disconnect available/unavailable,busy paid/unpaid"
    " complete,done/incomplete read/unread armed/disarmed boot/shutdown power/shutdown check/uncheck select/deselect"
    " invite/uninvite,kick share/unshare star/unstar admit/discharge book/cancel reserve/cancel order/cancel"
    " schedule/cancel create/delete,destroy,remove keep/delete save/discard push/pull send/unsend submit/withdraw"
)


def _table() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in _PAIRS.split():
        left, right = (side.split(",") for side in pair.split("/"))
        for one in left:
            for other in right:
                found.setdefault(one, set()).add(other)
                found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


OPPOSITES: Final = _table()
_PREFIXES: Final = ("un", "dis", "non")
_ENDINGS: Final = ("ed", "d", "ing", "s", "es", "ned", "ted", "ped", "med", "ied")
_IRREGULAR: Final = {
    "sold": "sell",
    "bought": "buy",
    "shut": "shut",
    "denied": "deny",
    "begun": "begin",
    "sent": "send",
}


@lru_cache(maxsize=8192)
def stems(word: str) -> frozenset[str]:
    """Return the forms that a word may be an inflection of, itself included (`locked`: `lock`)."""
    found = {word, _IRREGULAR.get(word, word)}
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            stem = word[: -len(ending)]
            found |= {stem, stem + "e", stem + "y"} if ending == "ied" else {stem, stem + "e"}
            if len(stem) > 3 and stem[-1] == stem[-2]:
                found.add(stem[:-1])
    return frozenset(found)


@lru_cache(maxsize=8192)
def opposed(one: str, other: str) -> bool:
    """Return whether two words, in whatever form, undo each other."""
    left, right = stems(one), stems(other)
    if left & right:
        return False
    if any(OPPOSITES.get(word, frozenset()) & right for word in left):
        return True
    return any(
        long == prefix + short
        for prefix in _PREFIXES
        for short, long in ((a, b) for pair in ((left, right), (right, left)) for a in pair[0] for b in pair[1])
        if len(short) > 2
    )


def said(word: str, words: Iterable[str]) -> bool:
    """Return whether a word stands among others in any form."""
    forms = stems(word)
    return any(forms & stems(other) for other in words)


def undone(word: str, words: frozenset[str]) -> bool:
    """Return whether a word is the opposite of one that was said, and was not said itself."""
    return any(opposed(word, other) for other in words) and not said(word, words)
