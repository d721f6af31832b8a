"""The vocabulary of drafts: what words in the names of tools, arguments and fields say of an undescribed tool. Data only.

Used by `derive.py` (effects and arguments) and `fields.py` (results). A word that is missing leaves the worst case; a word
that is wrong makes a draft milder than the tool, so only words with one common meaning stand here.
"""

from __future__ import annotations

from typing import Final

from agent_os.guards.flow import lexicon
from agent_os.guards.flow.lexicon import bag

READ: Final = bag(
    "get list search read fetch find check query view show lookup count describe look browse retrieve inspect calculate"
    " compute verify validate analyze analyse summarize summarise download is has estimate recommend compare preview"
    " translate convert extract scan monitor track explain filter ls cat grep head tail stat"
    " detect locate load parse who whoami today current"
)
PAY: Final = bag(
    "pay transfer refund reimburse wire buy purchase order donate withdraw deposit invest trade sell"
    " checkout payment money transaction transactions payout remit"
)
SEND: Final = bag(
    "send email mail message dm reply respond post publish tweet notify forward broadcast invite sms"
    " share announce comment chat call submit push slack"
)
SPOKEN: Final = bag(lexicon.PRIMARY["send"])
EXECUTE: Final = bag(
    "run execute exec eval shell bash python command install deploy spawn terminal script code launch"
    " cli console repl interpreter subprocess"
)
CREDENTIAL: Final = bag(
    "password passphrase credential credentials token key secret login mfa 2fa permission permissions role access pin"
)
SHARED: Final = bag(
    "calendar event meeting channel member user participant participants wiki page public team group"
    " issue pull merge repo repository branch workspace webpage website blog"
)

TEXT_ARGS: Final = bag(
    "body content text message subject title description summary comment note notes reason details caption bio"
    " abstract label question answer prompt instructions remark memo markdown html template feedback review"
    " agenda topic heading tags tag category priority status type kind mood"
    " color colour format language unit units"
    " data_ reference memo snippet paragraph signature greeting purpose symptoms transcript changes body_text"
)
NUMBER_ARGS: Final = bag(
    "amount quantity count number_of num limit size price duration minutes hours days n page offset top k rating"
    " score weight height temperature level volume percent percentage capacity guests nights adults max min"
    " quantity_ length width brightness speed value amount_cents total budget age year month"
)
DATE_ARGS: Final = bag(
    "date time start end day datetime when deadline due until from_date to_date check checkin"
    " checkout timestamp begin birthday schedule_time week quarter period"
)
SELECTOR_ARGS: Final = bag(
    "query q search keyword keywords filter sort order_by fields pattern term city country location currency symbol"
)

TRUSTED_FIELDS: Final = bag("id ids uuid status state type kind permission currency read all_day recurring")
PEOPLE_FIELDS: Final = bag(
    "guests guest invitees invitee participants participant attendees attendee members member recipients recipient cc bcc"
    " owner shared assignee assignees to users user"
)
IDENTITY_FIELDS: Final = bag("sender from author creator organizer organiser reporter username posted_by")
DIRECTORY: Final = bag(
    "contact contacts user users employee employees customer customers directory people person"
    " member members supplier suppliers vendor vendors profile account accounts client clients"
    " channel channels payee payees beneficiary beneficiaries team teams friend friends agent agents staff doctor doctors"
    " patient patients student students teacher teachers nurse nurses physician physicians tenant tenants colleague"
    " colleagues collaborator collaborators reviewer reviewers manager managers agents"
    " crew resident residents citizen citizens passenger passengers guest guests parent parents driver drivers technician"
    " technicians volunteer volunteers personnel applicant applicants candidate candidates carrier carriers borrower borrowers"
)
ADDRESS_FIELDS: Final = bag("email mail iban account phone name username handle user address account_number")
SECRET_FIELDS: Final = bag(
    "password passphrase secret token api_key apikey credential credentials ssn passport"
    " credit_card card_number cvv pin private_key access_key otp"
)
NO_NUMBER: Final = bag(
    "id number no nr num account ref reference code pin phone key card iban chat user port zip postcode serial"
)
"""Words in the name of a number that stands for something instead of measuring it."""
ENTRIES: Final = bag("items item ingredients ingredient entries entry lines line todos")
"""What lists of one's own are made of."""
THINGS: Final = bag(
    "service server host machine cluster device container job pipeline workflow environment region room zone"
)
"""What an execution is done to, and not the code that it runs."""
LISTS: Final = bag("channels users members names contacts folders labels categories groups teams projects rooms")

CONTENT: Final = bag(
    "file page webpage website url web content document attachment text body html ocr transcript log logs pdf"
    " note notes wiki article image clipboard stdout output"
)
WEB: Final = bag("web google bing duckduckgo internet http browse browser online crawl scrape")
CHANGES: Final = bag(
    "delete remove send forward pay update create write transfer approve merge upload replace post publish save set"
    " archive execute run apply install insert edit modify submit buy purchase cancel"
)
"""Words that make an effect of a tool whose name begins with a reading verb (`fetch_and_send`)."""
VIEWS: Final = bag(
    "detail history log status info level quote summary overview balance statistic stat metric catalog catalogue availability"
    " freebusy timeline preview count content profile inventory forecast calendar directory roster"
    " inbox weather index stock page result position location agenda cv free available left remaining today"
)
"""What a name without any verb says it returns (`orderDetail`, `channel_history`)."""
STORES: Final = bag(
    "history log logs content contents profile inventory stock balance calendar directory roster inbox index page cv"
    " catalog catalogue"
)
"""Views that something may be done to: an unknown word before one may be a verb (`torch_inventory`)."""
OF_THINGS: Final = bag(
    "absence accommodation airline album apartment app appliance applicant application appointment article assignment"
    " attachment attendee automation backlog bonus breakfast calendar candidate catalog certificate city client clinic"
    " collaborator colleague community company contractor conversation country coupon course credential cruise curtain"
    " customer data database debt department device diagnosis dinner directory doctor document donation driver duty"
    " employee enrollment enrolment event expense folder friend function garage guest heater holiday homework hostel"
    " hotel incident inventory invitation item itinerary job lamp lecture lesson library lunch mailbox meal medication"
    " meeting member membership memo memory milestone module movie music newsletter night notebook notification"
    " parking patient payment payroll people person playlist policy portfolio prescription presentation product"
    " proposal quality rating receipt region rental repository restaurant roster salary school seminar server session"
    " settings shipment song speaker spreadsheet story student subscriber subscription supplier teacher team"
    " temperature thermostat timesheet transaction transcript treatment trip tv user vacancy vacation vehicle vendor"
    " wallet website wiki wishlist workflow worklog workspace my our all recent latest new upcoming pending active"
    " current past old next last daily weekly monthly overdue unpaid unread available"
)
"""Words before things in the plural that are no verb (`customer_orders`); any other may be one (`release_funds`)."""
LETS_GO: Final = bag("release free")
"""Nouns and adjectives that are also what is done to a store."""
NOUNS: Final = VIEWS | lexicon.OBJECT_GROUPS.keys() | bag("log logs stock levels details quotes contents stats")
PERMALINKS: Final = bag("html_url permalink web_url weburl viewurl view_url share_url shareurl")
"""Fields in which a service itself says where a record is shown."""
KEYS: Final = bag(
    "no nr num number code ref reference key sku slug isbn ean barcode serial plate numero número nummer kennung codice"
    " matricule"
)
"""Last words of fields by which a service calls its records."""
NO_KEYS: Final = bag(
    "account iban bank card phone mobile telephone fax swift bic routing sort wallet name title file filename path url address"
    " email mail zip postcode version amount total price date time flight"
)
"""Words of fields that only look like keys: what stands there is an address, a name or a measure."""
RIGHTS: Final = bag("right role permission privilege access share")
TOLD: Final = bag(
    "text body message content subject amount price sum quantity to recipient recipients iban password value data payload"
    " right rights role roles permission permissions command action do new reason note comment"
)
"""Names of arguments that no listing needs."""
PROGRAMS: Final = bag("sql command cmd script shell bash python")
"""Names of arguments that are run, whatever the tool is called."""
SPANS: Final = bag("day week month")
"""Ends of names that say of when (`appointments_of_day`)."""
TRAILING: Final = bag("on of for in by at with")
OPENS: Final = bag("open")
ADJECTIVES: Final = bag("open complete clean clear direct correct present secure live close public set")
"""Verbs that are adjectives where no determiner follows."""
DETERMINERS: Final = bag("a an the this that its one any all each every new existing")
LINKS: Final = bag("url link href uri permalink")
JOINS: Final = bag("and or then")
NEVER_JOINED: Final = READ | bag("all any with status id by")
MINTS: Final = bag("share sharing public invite invitation presigned signed sas magic temporary shareable")
"""With `link` or `url` after it: what the tool hands out opens a door (`get_share_link`)."""
LOADED: Final = bag("plugin module extension library package macro skill addon driver")
"""What is loaded, imported or fetched to be run."""
SECRETS: Final = bag("password passphrase secret credential credentials apikey")
