"""Generic words for effects and for what they are done to, in groups. Data only; nothing here names a tool or a task.

Used twice with the same meaning: on the words of a prompt (what does the user ask for?) and on the words of a tool's
name (what does the tool do?). A prompt's verb and a tool's verb fit when they share a group.
"""

from __future__ import annotations

from typing import Final


def bag(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


VERBS: Final[dict[str, str]] = {
    "send": "send email mail message dm text forward reply respond write tell notify inform ask share post publish"
    " announce tweet ping contact broadcast submit deliver alert congratulate thank greet answer cc resend dispatch"
    " relay transmit communicate push say remind wish comment inquire complain confirm apologize apologise request refer explain"
    " brief nudge chase report circulate shoot drop fire pass",
    "create": "create make add write schedule book draft generate start open register insert put prepare compose note"
    " record log save store plan organise organize host upload set block duplicate copy arrange file raise"
    " setup build enter issue form produce remind bookmark mark post import define clone"
    " bill invoice leave remember memorize keep apply submit request prescribe lodge record sketch pencil jot compile initiate"
    " launch commission establish originate author mint provision pop stick fix",
    "update": "update change modify edit adjust set rename move reschedule postpone shift append add fix correct replace"
    " mark complete extend increase decrease raise lower assign reset switch turn enable disable revise amend"
    " convert insert put write approve accept reject decline tag label pin star archive close merge patch"
    " reassign hand configure dim commit reroute toggle resolve upgrade renew transition save store push resize swap alter finish"
    " prolong confirm link attach subscribe follow like rate upsert refactor implement improve format bump rotate"
    " rollback revert backup restore escalate promote cast vote rsvp react endorse nominate redirect track pause resume"
    " unpause reopen defer delay advance bring slip nudge scale rerun reinstate"
    " discount substitute stretch cut trim top fill sign close_"
    " relocate acknowledge ack allocate hold release"
    " waive override recategorize reclassify relabel retag reprice top-up",
    "delete": "delete disarm remove cancel clear drop trash discard erase unsubscribe purge revoke kick uninvite unfollow wipe"
    " clean ban withdraw terminate destroy deactivate unshare uninstall unlink detach void rid prune scrap axe nix ditch dump"
    " retract rescind abolish abort unregister deregister strike kill discard dispose end",
    "pay": "pay send transfer refund reimburse wire buy purchase order donate tip settle repay return deposit withdraw"
    " invest schedule make remit charge credit debit top checkout compensate trade sell give split transact"
    " topup recharge redeem claim swap stake move shift",
    "book": "book reserve reservation rent order buy hire booking purchase make get schedule reschedule checkin",
    "share": "share give grant invite add send publish allow authorize authorise collaborate permit forward export let"
    " upload transfer",
    "invite": "invite add onboard enrol enroll include register join welcome create subscribe",
    "execute": "run execute install deploy start launch restart build test compile stop kill apply migrate play turn"
    " reboot shutdown trigger invoke activate perform simulate train call enable disable lock unlock open close"
    " boot clean format lint commit push fix implement debug refactor rebase merge spawn delegate use rollback print rerun retry"
    " scale freeze block halt",
    "read": "get list search read fetch find check query view show lookup count describe look see browse visit"
    " summarize summarise tell recommend suggest give analyze analyse review compare download retrieve inspect"
    " calculate compute verify validate translate convert extract scan monitor track watch examine identify know"
    " determine estimate locate discover explain display load preview filter sort parse",
}
"""Group -> verbs in their base form. A verb may stand in several groups."""

PRIMARY: Final[dict[str, str]] = {
    "share": "share grant give permit allow authorize authorise collaborate",
    "pay": "pay send transfer refund reimburse wire buy purchase donate repay withdraw deposit order sell trade schedule"
    " invest remit make tip settle",
    "book": "book reserve rent hire reservation booking order",
    "invite": "invite add onboard enrol enroll register join",
    "execute": "run execute install deploy start launch restart build test compile stop kill trigger invoke apply commit"
    " rollback",
    "send": "send email mail message dm text forward reply respond write tell notify inform ask post publish announce"
    " tweet ping broadcast submit alert answer say push relay comment request refer",
}
"""Group -> the verbs that mean it when a tool is named by them; groups not listed mean all of their verbs."""

OBJECTS: Final[dict[str, str]] = {
    "email": "email mail inbox newsletter mailbox correspondence e-mail",
    "message": "message dm msg chat slack text reply comment question note conversation thread post announcement"
    " notification greeting feedback sms whatsapp teams discord",
    "event": "event appointment meeting calendar reminder invitation lunch dinner breakfast call session slot"
    " interview participant attendee standup sync party agenda meetup rsvp",
    "file": "file document doc docx xlsx pptx txt pdf csv md json spreadsheet sheet folder report list drive directory"
    " attachment presentation slide readme notebook archive path minutes letter contract agreement memo brief form certificate"
    " receipt scan draft copy transcript manual handout worksheet proposal",
    "money": "money transaction payment transfer refund bill invoice rent amount fee bank subscription debit salary"
    " difference cash dollar euro usd eur price cost iban balance fund wage share debt loan charge order"
    " purchase donation tip expense payroll deposit budget payout wage salary bonus adjustment claim",
    "worklog": "timesheet worklog timelog hour",
    "user": "user member person people colleague contact profile info information address account employee customer"
    " client name phone settings personal details friend subscriber lead guest team teammate record data collaborator contractor",
    "channel": "channel room group forum server workspace community board",
    "web": "website webpage page site url blog article link web form wiki",
    "lodging": "hotel room accommodation stay hostel apartment airbnb lodging night suite motel",
    "restaurant": "restaurant table dinner lunch cafe bistro diner meal seat",
    "vehicle": "car rental vehicle ride taxi uber truck suv van bike driver",
    "travel": "flight ticket train plane airline bus trip seat itinerary cruise journey",
    "credential": "password passphrase pin credential token key secret login username passcode 2fa mfa",
    "task": "task todo issue ticket bug card story project item milestone epic incident case reminder request"
    " assignment backlog checklist",
    "code": "repo repository branch commit pull code pr merge script function package module release pipeline build"
    " workflow tag patch program test app application bug service container",
    "product": "product cart item basket wishlist order shipment parcel inventory stock catalog coupon",
    "schedule": "schedule standing recurring cron alarm timer reminder routine job automation trigger",
    "device": "device appliance gadget dishwasher oven washer dryer vacuum",
    "light": "light lamp bulb lighting brightness",
    "climate": "thermostat temperature heater heating ac fan aircon humidity degree warm",
    "door": "door lock gate",
    "garage": "garage",
    "camera": "camera cctv doorbell",
    "media": "tv television speaker music volume song playlist track movie album video",
    "alarm": "alarm siren",
    "window": "window blind curtain shutter",
    "machine": "oven vacuum washer dishwasher dryer",
    "subscription": "subscription membership plan newsletter trial",
    "memory": "memory preference fact note knowledge remember",
    "database": "database table row column record sql query schema index entry db",
    "health": "vital pressure blood weight workout exercise"
    " prescription patient medication doctor appointment dose medical diagnosis treatment clinic",
    "crypto": "wallet crypto bitcoin ethereum coin nft stock share portfolio trade position bond",
    "lesson": "course class lesson module enrolment enrollment section seminar lecture exam grade homework",
    "vacancy": "job application applicant candidate vacancy position shift leave absence vacation roster",
    "review": "review rating feedback comment score testimonial",
    "permission": "permission access role right privilege visibility sharing policy",
}
"""Group -> nouns in the singular."""

IMPLIED: Final[dict[str, str]] = {
    "email": "email", "mail": "email", "message": "message", "dm": "message", "text": "message", "reply": "message email",
    "pay": "money", "refund": "money", "reimburse": "money", "wire": "money", "donate": "money", "repay": "money",
    "invite": "user event channel", "reschedule": "event", "post": "message channel web", "tweet": "message web",
    "share": "file permission", "deploy": "code", "commit": "code", "push": "code", "merge": "code", "remember": "memory",
    "transfer": "money", "forward": "email message", "buy": "product money crypto", "purchase": "product money",
    "order": "product money", "rent": "vehicle", "notify": "message email", "remind": "event task schedule",
    "compile": "code", "execute": "code", "install": "code", "subscribe": "user channel", "publish": "web message",
    "bill": "money", "invoice": "money", "comment": "message task review", "rollback": "code",
    "message_": "message", "sell": "crypto product", "unlock": "device", "lock": "device",
}  # fmt: skip
"""Verb -> object groups that it implies by itself."""

IRREGULAR: Final[dict[str, str]] = {
    "people": "person", "children": "child", "minutes": "minutes", "details": "details", "settings": "settings",
    "news": "news", "address": "address", "access": "access", "business": "business", "companies": "company",
    "addresses": "address", "passes": "pass", "data": "data", "movies": "movie", "cookies": "cookie",
}  # fmt: skip

UNIVERSAL: Final = bag(
    "each every all both them these those everyone everybody multiple any several respective everything others"
    " whole entire various whoever whichever many individual individually"
)
"""Words that make an effect repeatable."""
EACH: Final = bag("each every all everyone everybody respective everything individual individually")
"""Those of them that leave nobody out, whatever words of choice stand beside them."""

NO_EFFECT_BEFORE: Final = bag("i we they he she it who which")
"""A base-form verb straight after one of these is a statement, not a request."""

MOST: Final = bag(
    "most largest biggest highest best latest newest maximum max top longest last greatest richest top-rated"
    " best-rated latest highest-rated recent heaviest priciest busiest fullest tallest widest deepest strongest hottest warmest"
    " newer larger bigger higher longer later greater"
)
LEAST: Final = bag(
    "least smallest lowest cheapest oldest earliest fewest minimum min shortest first worst lightest closest"
    " emptiest narrowest coldest coolest weakest slowest youngest thinnest"
    " nearest soonest older smaller lower shorter earlier cheaper fewer sooner fastest quickest faster quicker"
)
DEAREST: Final = bag("expensive priciest dearest costliest")
"""Words of choice, by the direction they point in (`oldest`, `earliest`, `first` are least in time)."""


def singular(word: str) -> str:
    """Return a noun's singular by the common rules of English spelling."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "ches", "shes", "zes")):
        return word[:-2] if not word.endswith("ses") or word.endswith("sses") else word[:-1]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _groups(table: dict[str, str]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for group, members in table.items():
        for member in members.split():
            found.setdefault(member, set()).add(group)
    return {word: frozenset(groups) for word, groups in found.items()}


VERB_GROUPS: Final = _groups(VERBS)
OBJECT_GROUPS: Final = _groups(OBJECTS)
NONE: Final[frozenset[str]] = frozenset()


def tool_groups(verb: str) -> frozenset[str]:
    """Return the groups of effects that a tool named by this verb has."""
    return frozenset(
        group for group in VERB_GROUPS.get(verb, NONE) if group not in PRIMARY or verb in PRIMARY[group].split()
    )


GIVEN: Final[dict[str, str]] = {
    "label": "label", "tag": "tag", "status": "set", "priority": "set", "rating": "rate", "title": "rename", "name": "rename",
    "color": "set", "flag": "label", "category": "label", "deadline": "set", "date": "set", "time": "set", "stars": "rate",
}  # fmt: skip
"""What is given -> the verb that it means (`give the issue the label bug`)."""

PHRASES: Final[dict[tuple[str, str], str]] = {
    ("set", "up"): "create", ("roll", "back"): "rollback", ("back", "up"): "backup", ("top", "up"): "topup",
    ("follow", "up"): "send", ("reach", "out"): "send", ("sign", "up"): "register", ("sign", "me"): "register",
    ("check", "out"): "checkout", ("shut", "down"): "shutdown", ("turn", "on"): "turn", ("turn", "off"): "turn",
    ("switch", "on"): "turn", ("switch", "off"): "turn", ("take", "down"): "remove", ("get", "rid"): "delete",
    ("call", "off"): "cancel", ("put", "off"): "postpone", ("hand", "over"): "assign", ("fill", "in"): "update",
    ("fill", "out"): "submit", ("write", "down"): "save", ("note", "down"): "save", ("jot", "down"): "save",
    ("loop", "in"): "invite", ("send", "back"): "refund", ("give", "back"): "refund", ("pay", "back"): "refund",
    ("roll", "out"): "deploy", ("take", "off"): "remove", ("move", "up"): "move",
    ("pencil", "in"): "schedule", ("throw", "out"): "delete", ("throw", "away"): "delete", ("take", "in"): "accept",
    ("sign", "off"): "approve", ("call", "in"): "request", ("drop", "off"): "deliver", ("hold", "off"): "postpone",
    ("hang", "up"): "stop", ("hand", "in"): "submit", ("hand", "out"): "share", ("pass", "on"): "forward",
    ("write", "off"): "cancel",
    ("strike", "off"): "remove", ("leave", "out"): "remove", ("kick", "off"): "start", ("bring", "forward"): "reschedule",
    ("push", "back"): "postpone", ("send", "out"): "send", ("switch", "over"): "change", ("print", "out"): "print",
    ("make", "sure"): "", ("note", "that"): "", ("order", "to"): "",
}  # fmt: skip
"""Two words that together are another verb (nothing: none)."""

SEPARABLE: Final = bag(
    "roll hand call put take set top turn switch shut back throw send hand pass write leave push bring sign"
)
"""Verbs whose particle may stand behind what they are done to (`roll the service back`)."""

PARTICIPLES: Final[dict[str, str]] = {
    "sent": "send", "paid": "pay", "made": "make", "written": "write", "put": "put", "set": "set", "told": "tell",
    "bought": "buy", "sold": "sell", "given": "give", "taken": "take", "run": "run", "held": "hold", "built": "build",
    "withdrawn": "withdraw",
}  # fmt: skip


def base_form(word: str, ending: str) -> str:
    """Return the base of a verb's form in `ed` or `ing` that the lexicon knows, or nothing."""
    if ending == "ed" and word in PARTICIPLES:
        return PARTICIPLES[word]
    if not word.endswith(ending):
        return ""
    stem = word[: -len(ending)]
    for form in (
        stem,
        stem + "e",
        stem[:-1] if stem[-1:] == stem[-2:-1] else "",
        stem[:-1] + "y" if stem.endswith("i") else "",
    ):
        if form in VERB_GROUPS:
            return form
    return ""


RECEIVED: Final[dict[str, str]] = {
    "message": "send", "mail": "email", "email": "email", "reply": "reply", "answer": "reply", "note": "send",
    "reminder": "remind",
    "refund": "refund", "money": "refund", "invitation": "invite", "invite": "invite", "access": "grant",
    "notification": "notify",
    "copy": "send", "update": "inform", "word": "tell", "link": "send", "confirmation": "confirm",
    "summary": "send", "call": "tell",
}  # fmt: skip
"""What somebody is to get -> the verb that it means (`I'd like her to get a message`)."""

OUTPUT_ONLY: Final = bag("tell give show let write share make get say explain list find create")
"""Verbs that, done to `me`, ask for an answer and for no effect."""
