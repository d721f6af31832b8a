"""The words that announce a name: greetings, titles, verbs of speech, prepositions of places, posts in companies.

Expressions only; those that end in `$` are searched in the text before a word, the others matched behind it. Five languages.
"""
# ruff: noqa: E501 - word lists and expressions read better whole

from __future__ import annotations

import re
from typing import Final

NAME_CUE: Final = re.compile(
    r"(?:\bname(?:'s)?(?: is| was|:| to|=| on the account is)?|\bcall(?:ed|s)?(?: me| him| her)?|\bi'm|\bi am|\bthis is|\bhi|\bhello|\bdear|\bhey|\bregards,?|\bthanks,?|\bsincerely,?"
    r"|\bnamed(?: him| her)?|\bmeet|\bdaughter|\bson|\bwife|\bhusband|\bkid|\bkids?|\bbrother|\bsister|\bmother|\bfather|\bgrandfather|\bgrandmother|\bfriend|\buncle|\baunt|\bboss|\bassistant to"
    r"|\bpartner|\bcolleague|\buser:|\bauthor:?|\battn:?|\bcontact:?|\bguardian|\bsinger|\bplayer|\bproducer|\bsongwriter|\bcommenter|\bactor|\bactress|\bdirector|\bdirected by:?|\bwritten by|\bby|\bco-wrote with"
    r"|\bsays|\bsaid|\basked|\btold|\bstarring|\bartist|\bdoctor|\bpatient|\bclient|\bcustomer|\bemployee|\bmanager|\bfan of|\bfeatures|\bfeaturing|\bfollow up with|\bunder|\bjohn doe"
    r"|\bmein name ist|\bich hei\u00dfe|\bich bin|\bherr|\bfrau|\bhallo|\bliebe[r]?|\bje m'appelle|\bje suis|\bmonsieur|\bmadame|\bbonjour|\bcher|\bch\u00e8re|\bme llamo|\bsoy|\bmi nombre es|\bse\u00f1ora?|\bhola|\bestimad[oa]"
    r"|\bmi chiamo|\bsono|\bsignora?|\bciao|\bgentile|\bmaiden name is|\blast name\?|\bfirst name|\bex-\w+|\bpoet|\bnovelist|\bmaestro|\bcoach|\bmaiden name)[\s:\"'*>-]{1,4}$"
)
STRONG_CUE: Final = re.compile(
    r"(?:\b(?:hallo|bonjour|bonsoir|hola|ciao|gr\u00fc\u00df(?:e|en)?|gru\u00df|cordialement|saludos?|saluti|wishes|regards|cheers|sincerely|patiente?|patientin|paciente|paziente|kundin|kunde|klient|se\u00f1ora?|signora?|sig\.|(?:cliente|client|kunde|nom|nombre|nome|nachname|apellidos?)\s?:),?|\bname(?:'s)?(?: is| was|:)|\bcall(?:ed|s)?(?: me| him| her)|\bmy name is|\bnamed(?: him| her)?|\bmein name ist|\bich hei\u00dfe|\bje m'appelle|\bme llamo|\bmi nombre es|\bmi chiamo"
    r"|\bhi|\bhello|\bdear|\bmr\.?|\bmrs\.?|\bms\.?|\bdr\.?|\bmiss|\bherr|\bfrau|\bmonsieur|\bmadame|\bpeople call me|\bmaiden name is|\bchange it to|\bcorrect it to|\baccount\? user:|\blast name\?|\byour name\?|\bunder)[\s:\"'*>-]{1,3}$"
)
SAID: Final = re.compile(
    r"(?:'s|\u2019s)?,?\s{0,2}(?:(?:arbeitet|sagte|sagt|schrieb|wohnt|lebt|erkl\u00e4rte|bestellte|travaille|habite|d\u00e9clare|a (?:dit|\u00e9crit|d\u00e9clar\u00e9|sign\u00e9|command\u00e9)|trabaja|vive|dijo|escribi\u00f3|firm\u00f3|"
    r"lavora|abita|ha (?:detto|scritto|firmato|ordinato)|approved|closed|signed|sent|called|reported|opened|confirmed|requested|submitted|reviewed|booked|ordered|emailed|joined|resigned|will follow up|followed up)\b|said|says|asked|told|wrote|writes|replied|shouted|explained|lives|lived|listed|began|who|had given|had|spoke|speaks|will be talking|is very|is from|was born|was a huge"
    r"|was impressed|is a very|is an?|has|and i\b|,? can i\b|spent|works|worked|moved|flew|got|just|'s (?:daughter|son|wife|husband|address|kid|killers)|concert|version|novel|novels|speak|please|so impulsive|under debate)"
)
PERSONAL: Final = re.compile(
    r"(?:,? (?:has worked for|will follow up|trabaja (?:en|para)|lavora (?:per|presso)|travaille chez|arbeitet|approved|signed|emailed|closed the|confirmed|resigned|said|says|asked|told|replied|shouted|whispered|laughed|smiled|lives|lived|spoke|walked|thinks|loves|married|spent|moved|flew|had given|wrote (?:to|back)|was born|just has to)\b"
    r"|, can i |(?:'s|\u2019s) (?:daughter|son|wife|husband|mother|father|sister|brother|kid|kids|address|phone|name|birthday)\b)"
)
PLACE_CUE: Final = re.compile(
    r"(?:\bin|\bfrom|\bto|\bnear|\bvisit(?:ing|ed)?|\bvia|\btowards?|\bleaving|\barrived (?:at|in)|\bacross|\bthrough|\boutside|\bdowntown|\bcity of|\bcity|\bcountry|\bwhere:|\btown of|\bstreet in|\bserving|\bat|\bvisited"
    r"|\bin der|\bin|\baus|\bnach|\b\u00e0|\ben|\bde|\ba|\bda|\bdi)[\s:]{1,3}$"
)
TO_SOMEBODY: Final = re.compile(
    r"\b(?:according|thanks|spoke|talked|wrote|written|write|reports?|reported|belongs?|due|listen|given|assigned) to $"
)
STRONG_PLACE_CUE: Final = re.compile(
    r"(?:\blives? in|\blived in|\blive in|\bliving in|\bmoved here from|\boriginally from|\btravell?ing to|\bborn in|\bflew to|\breturned to|\bhome city|\bbased in|\bgrew up in|\btrip to|\bgo to|\bgoing to|\bi am in|\bi'm in|\bwithdraw from|\bstreet in"
    r"|\boffices? in|\bmove to|\bmoved to|\barrived (?:at|in)|\bcoming to|\buniversity of|\bfriend lives in|\bwohne in|\bwohnt in|\bhabite \u00e0|\bvivo en|\babito a|\bcelebrating its \w+ year in|\bplane to|\btrain to|\bcity:|\bcountry:|\bstate:|\bwhere:)\s{1,2}$"
)
ORG_CUE: Final = re.compile(
    r"(?:\bwork(?:s|ed|ing)? (?:for|at)|\bemployed (?:by|at)|\bceo of|\bcfo of|\bcto of|\bfounder of|\bfounded|\baccount at|\bjoined|\baddress of|\brecorded for|\baccording to the|\binvested in|\byear at|\bfounders of|\blooking to support"
    r"|\bsubsidiary of|\bacquired by|\bsold to|\bpartner at|\bshares of|\barbeitet? bei(?: der)?|\bjahren bei(?: der)?|\btravaille chez|\btrabajo en|\btrabaja (?:en|para)|\blavor[oa] (?:per|presso)|\blater became|\bcompany)\s{1,2}(?:the )?$"
)
ORG_AFTER: Final = re.compile(
    r"(?:'s|\u2019s)?\s{0,2}(?:office|website|headquarters|employees|shares|stock|orchestra|is the brainchild|is a design agency|is an? (?:\w+ ){0,3}(?:company|bank|firm|agency|startup)|invested|announced|acquired|songwriter|was founded)\b",
    re.I,
)
SURNAME: Final = re.compile(
    r"(?:ova|eva|ov|ev|in|ina|sky|ska|ski|skaya|cka|cki|czyk|wicz|witz|enko|chuk|yuk|yan|ian|shvili|dze|son|sson|dottir|d\u00f3ttir|sen|berg|stein|mann|bauer|meyer|maier|hoff|feld|wald|thal|bach|brandt|stra|sma|inga|ema"
    r"|ez|es|as|is|os|elli|etti|ini|ucci|acci|ello|aldi|oni|ari|ante|eau|eux|aud|ard|ier|iere|nen|l\u00e4|la|oja|ki|ic|i\u0107|vic|ovi\u0107|ek|ik|\u00edk|\u00e1k|ov\u00e1|\u00e1|y|\u00fd|escu|eanu|oglu|oz|ton|ley|ford|worth|wood|field|well|ham|man|gren|qvist|quist|str\u00f6m|lund|dahl|vik|stad|haug)$"
)  # fmt: skip

OPENERS: Final = frozenset(
    "hallo hello hi hey dear bonjour bonsoir hola ciao liebe lieber cher ch\u00e8re estimado estimada gentile patient patientin patiente paciente paziente kunde kundin client cliente customer".split()
)
"""Words that are capitalised themselves and announce a name."""
BY_CUE: Final = re.compile(
    r"(?:\b(?:par|durch|por|da|von|according to|selon|laut|seg\u00fan|secondo|f\u00fchrte|redact\u00f3|firm\u00f3|unterschrieb)|\b(?:and|y|et) )\s{0,2}$"
)
"""Before a family name that is nothing else."""
