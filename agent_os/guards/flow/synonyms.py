"""Which verbs of a request mean what a tool does, where the tool does one thing: `restart` is no `stop`. Data and a rule, pure.

The groups of the lexicon are wide (`run`, `stop` and `build` are all executions), which is right for tools that do anything
(`update_order`) and wrong for those that do one thing: a hijacked model told to stop a service would find "restart it" near
enough. A tool named by a verb that stands here is in scope for that verb and its synonyms alone. Errs towards a question: a
synonym that is missing asks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from agent_os.guards.flow import lexicon
from agent_os.guards.flow.lexicon import bag

NARROW: Final[dict[str, str]] = {
    "run": "execute trigger start launch perform invoke call rerun do use apply simulate test build compile print play",
    "execute": "run trigger start launch perform invoke call do apply", "trigger": "run start launch execute rerun",
    "start": "launch run boot begin trigger resume turn switch open activate play enable initiate kick commission",
    "launch": "start run open begin deploy trigger", "restart": "reboot rerun", "reboot": "restart",
    "rerun": "restart retry run repeat", "stop": "halt end kill shutdown turn switch abort terminate",
    "kill": "stop end abort terminate", "halt": "stop", "shutdown": "stop turn switch halt", "build": "compile make",
    "compile": "build make", "test": "run", "deploy": "release rollout ship push publish promote install launch",
    "install": "add setup deploy", "apply": "run use deploy execute", "migrate": "move run",
    "commit": "push save fix add", "push": "commit upload send publish", "play": "start run put",
    "lock": "secure close block freeze", "unlock": "open", "block": "freeze lock stop suspend ban hold",
    "open": "unlock start create raise file log add make put", "freeze": "block lock hold suspend stop",
    "enable": "activate turn switch toggle start", "disable": "deactivate turn switch toggle stop",
    "activate": "enable turn switch start", "deactivate": "disable turn switch stop",
    "delete": "remove erase trash discard drop scrap clear rid cancel purge wipe prune throw axe ditch dump"
    " withdraw nix",
    "remove": "delete drop erase clear rid discard kick uninvite unshare detach unlink uninstall strike trash"
    " cancel withdraw revoke",
    "cancel": "delete remove drop withdraw scrap axe terminate end stop revoke abort unsubscribe void rid call",
    "terminate": "end cancel stop kill", "revoke": "withdraw remove cancel", "unsubscribe": "cancel remove end stop",
    "ban": "block remove kick", "kick": "remove ban", "purge": "delete clear erase wipe",
    "wipe": "delete clear erase purge", "erase": "delete clear wipe purge", "destroy": "delete",
    "discard": "delete remove drop trash", "drop": "delete remove discard", "trash": "delete remove discard drop",
    "end": "stop cancel finish terminate close", "void": "cancel", "uninstall": "remove delete",
    "pay": "settle transfer send remit wire give make compensate split tip donate reimburse move repay return credit",
    "transfer": "move send pay wire shift give remit deposit withdraw donate put repay refund split",
    "wire": "transfer send pay remit", "remit": "transfer send pay wire", "settle": "pay", "repay": "pay return refund",
    "refund": "reimburse repay return give credit send compensate pay",
    "reimburse": "refund repay return pay compensate", "buy": "purchase order get", "purchase": "buy order get",
    "order": "buy purchase get request reorder make", "sell": "trade", "trade": "buy sell swap",
    "deposit": "pay put add transfer", "withdraw": "cancel retract pull take", "donate": "give send pay transfer",
    "invest": "put buy", "share": "give grant send publish invite add forward export show let allow permit",
    "grant": "give allow permit share let add assign authorize", "permit": "allow grant give let",
    "allow": "permit grant give let", "publish": "post release share announce put broadcast tweet make",
    "tweet": "post publish announce share write say",
    "announce": "post publish tell share inform say write broadcast send", "broadcast": "announce send publish",
    "post": "publish send write share put announce leave say tell message add tweet inform notify ask ping"
    " broadcast wish thank congratulate", "pause": "hold suspend stop freeze halt",
    "suspend": "pause hold block freeze stop disable", "resume": "continue restart start unpause reopen reinstate",
    "rename": "call name title",
    "move": "reschedule shift transfer relocate postpone bring push put delay advance migrate archive slip date"
    " time place",
    "reschedule": "move postpone shift delay advance bring push put defer slip date time day hour schedule",
    "postpone": "reschedule move delay defer push", "extend": "prolong renew stretch increase longer",
    "renew": "extend prolong", "increase": "raise bump extend up", "raise": "increase bump",
    "lower": "reduce decrease cut trim drop", "reduce": "lower decrease cut trim drop",
    "decrease": "lower reduce cut trim drop", "close": "resolve complete finish archive shut end done",
    "archive": "close move", "merge": "combine squash", "accept": "approve confirm take",
    "approve": "accept confirm authorize", "reject": "decline deny turn", "decline": "reject cancel turn",
    "promote": "escalate", "escalate": "raise promote", "rotate": "reset renew", "revert": "rollback restore",
    "rollback": "revert restore", "restore": "revert recover", "reset": "change restore", "follow": "subscribe",
    "cast": "vote", "redirect": "forward move", "patch": "fix", "upgrade": "bump", "track": "follow",
    "link": "attach connect", "pin": "star", "relocate": "move transfer shift",
    "hold": "block lock suspend pause stop freeze", "release": "free approve publish", "acknowledge": "confirm accept",
    "vote": "cast rate", "confirm": "accept approve",
}  # fmt: skip
"""Verbs of tools that do one thing -> verbs of a request that mean the same, and what a request that changes names then
(`change the date`: `reschedule`).
"""
CHANGING: Final = bag("update change set mark modify edit make")
"""Verbs of a request that can mean any change, where it says which (`set the status to closed`)."""
_RUNNING: Final = bag("run execute perform trigger start launch do use apply")
"""Verbs of a request that mean an execution of any kind."""


@lru_cache(maxsize=16384)
def shared_groups(verb: str, way: str, clause: frozenset[str]) -> frozenset[str]:
    """Return the groups that a request's verb shares with a tool's (`way`); `clause` are the words that go with the verb."""
    others, groups = NARROW.get(way), lexicon.tool_groups(way)
    if others is None:
        shared = lexicon.VERB_GROUPS.get(verb, lexicon.NONE) & groups
        return shared if verb in _RUNNING or verb == way else shared - {"execute"}
    meant = {way, *others.split()}
    if verb not in CHANGING:
        return groups if verb in meant else lexicon.NONE
    past = {form for word in meant for form in (f"{word}d", f"{word}ed", f"{word}{word[-1]}ed", f"{word[:-1]}ied")}
    return groups if clause & (meant | past) else lexicon.NONE
