"""German, French, Spanish and Italian prompts, turned into the English words that the planner reads. Data and rules, pure.

No translation: verbs of effects, the nouns they are done to, and the little words that tell a request from a statement or
a prohibition become their English counterparts, clause by clause, the verb first; every other word stays as it is. A verb
that is denied, that stands behind a subject of its own (`ich habe`, `il a`) or behind an article is left alone: what is
not understood is out of scope and asks, which is the safe way to err.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from agent_os.guards.flow import lexicon, tongue_words
from agent_os.guards.flow.lexicon import bag

COMMAND_WORDS: Final = 4
"""Words of a clause that begins with its verb among which a denial or a subject belongs to it."""
COMPOUND_CHARS_MIN: Final = 5
"""Shortest noun that is recognised as the end of a German compound."""


def table(text: str) -> dict[str, str]:
    """Return word -> meaning of a text of `word=meaning` pairs."""
    return dict(pair.split("=") for pair in text.split())


@dataclass(frozen=True)
class Tongue:
    """One language: how to know it, its verbs by form, nouns, small words, and the words that deny or state."""

    name: str
    signs: frozenset[str]
    verbs: Mapping[str, str]
    nouns: Mapping[str, str]
    small: Mapping[str, str]
    denies: frozenset[str]
    states: frozenset[str]
    """Subjects and auxiliaries: a verb in their clause tells and does not ask, unless a wish stands there too."""
    wishes: frozenset[str]
    breaks: frozenset[str]
    clitics: tuple[str, ...] = ()
    compounds: bool = False


def _forms(stems: str, endings: tuple[str, ...], irregular: str, before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for stem, verb in table(stems).items():
        for ending in endings:
            found.setdefault(stem + ending, verb)
        if before:
            found.setdefault(f"{before}{stem}t", verb)
            found.setdefault(f"{before}{stem}et", verb)
    return {**found, **table(irregular)}


_GERMAN: Final = Tongue(
    "german",
    bag("der die das und den dem bitte nicht ist ein eine einen mir mich für mit auf von zu im am an kannst könntest"
        " schick schicke lösche alle wie dann noch uns bis zum zur sag danach ich meine meinen mein"),
    _forms(
        "lösch=delete schick=send send=send antwort=reply beantwort=reply schreib=write verfass=write stornier=cancel buch=book"
        " reservier=reserve bestell=order kauf=buy bezahl=pay zahl=pay überweis=transfer erstatt=refund erstell=create"
        " verschieb=move verleg=move änder=change aktualisier=update entfern=remove schließ=close öffn=open start=start"
        " erinner=remind benachrichtig=notify informier=inform plan=schedule vereinbar=schedule speicher=save"
        " veröffentlich=publish post=post kündig=cancel erhöh=increase senk=lower reduzier=decrease setz=set stell=set"
        " sperr=lock verriegel=lock entsperr=unlock frag=ask bedank=thank bestätig=confirm weis=assign trag=add füg=add"
        " leg=create lad=invite leit=forward teil=share gib=give verkauf=sell kopier=copy installier=install führ=run"
        " archivier=archive markier=mark merk=remember sag=tell mach=make mail=email kommentier=comment",
        ("", "e", "en", "n"),
        "gelöscht=delete geschickt=send gesendet=send storniert=cancel gebucht=book reserviert=reserve bestellt=order"
        " gekauft=buy bezahlt=pay überwiesen=transfer verschoben=move geändert=change aktualisiert=update entfernt=remove"
        " geschlossen=close beantwortet=reply geschrieben=write erstellt=create informiert=inform benachrichtigt=notify"
        " weiterleiten=forward weiterzuleiten=forward weitergeleitet=forward absagen=cancel abzusagen=cancel abgesagt=cancel"
        " anlegen=create anzulegen=create angelegt=create eintragen=add einzutragen=add eingetragen=add hinzufügen=add"
        " hinzuzufügen=add einladen=invite einzuladen=invite eingeladen=invite mitteilen=tell mitzuteilen=tell"
        " ausschalten=turn einschalten=turn anschalten=turn abschalten=turn ausmachen=turn anmachen=turn zuweisen=assign"
        " zugewiesen=assign umbenennen=rename benenne=rename schalte=turn schalt=turn lies=read neustarten=restart"
        " starte=start zurückerstatten=refund herunterfahren=shutdown freigeben=share gib=give geben=give abbestellen=unsubscribe"
        " tragen=add laden=invite leite=forward schließe=close",
    ),
    table(
        "mail=email e-mail=email email=email nachricht=message nachrichten=messages datei=file dateien=files dokument=document"
        " dokumente=documents ordner=folder bericht=report tabelle=spreadsheet anhang=attachment notiz=note termin=appointment"
        " termine=appointments besprechung=meeting meeting=meeting kalender=calendar ereignis=event einladung=invitation"
        " treffen=meeting sitzung=meeting erinnerung=reminder rechnung=invoice rechnungen=invoices zahlung=payment"
        " überweisung=transfer betrag=amount miete=rent geld=money konto=account rückerstattung=refund dauerauftrag=payment"
        " abo=subscription kunde=customer kundin=customer kunden=customer benutzer=user nutzer=user kollegen=colleagues"
        " kollegin=colleague mitarbeiter=employee passwort=password kennwort=password hotel=hotel zimmer=room flug=flight"
        " zug=train tisch=table restaurant=restaurant bestellung=order bestellungen=orders produkt=product artikel=product"
        " warenkorb=cart lampe=lamp licht=light lichter=lights heizung=heating thermostat=thermostat tür=door haustür=door"
        " aufgabe=task aufgaben=tasks ticket=ticket tickets=tickets kanal=channel gruppe=group kommentar=comment antwort=reply"
        " liste=list einkaufsliste=shopping-list eintrag=entry adresse=address lieferadresse=address telefonnummer=phone"
        " patient=patient patientin=patient rezept=prescription status=status priorität=priority dienst=service server=server"
        " urlaub=vacation urlaubsantrag=request antrag=request gutschrift=credit paket=parcel mitglied=member zugriff=access"
    ),
    table(
        "der=the die=the das=the den=the dem=the des=the ein=a eine=a einen=a einem=a einer=a mein=my meine=my meinen=my"
        " meiner=my meinem=my unser=our unsere=our unseren=our ihr=her ihre=her ihren=her ihrem=her sein=his seine=his"
        " alle=all allen=all jede=each jeden=each jeder=each jedem=each sämtliche=all beide=both mir=me uns=us es=it sie=them"
        " ihn=it ihm=him ihnen=them und=and oder=or dann=then danach=then bitte=please günstigste=cheapest"
        " günstigsten=cheapest billigste=cheapest billigsten=cheapest teuerste=dearest teuersten=dearest neueste=latest"
        " neuesten=latest neuste=latest älteste=oldest ältesten=oldest größte=largest größten=largest kleinste=smallest"
        " kleinsten=smallest beste=best besten=best früheste=earliest frühesten=earliest letzte=last letzten=last"
        " nächste=earliest nächsten=earliest meisten=most an=to für=for mit=with auf=on von=from in=in zu=to zum=to zur=to"
    ),
    bag("nicht nichts kein keine keinen keinesfalls niemals nie ohne"),
    bag("ich wir er man habe hat haben hatte wurde wurden wer was welche welcher welches wann warum"),
    bag("möchte möchten will wollen soll sollen sollte sollten muss müssen bitte würde hätte gern gerne"),
    bag("und dann danach sowie anschließend"),
    compounds=True,
)  # fmt: skip

_FRENCH: Final = Tongue(
    "french",
    bag("le la les des une un et est dans pour avec sur mon ma mes aux du de à au s'il plaît peux pouvez ensuite puis moi"
        " tous toutes veuillez cette ce lui leur qui"),
    _forms(
        "envoy=send supprim=delete annul=cancel pay=pay vers=pay réserv=reserve command=order achet=buy cré=create ajout=add"
        " modifi=change chang=change déplac=move report=postpone rembours=refund transfer=transfer partag=share invit=invite"
        " notifi=notify inform=inform rappel=remind ferm=close lanc=start redémarr=restart allum=turn règl=set"
        " augment=increase baiss=lower publi=publish not=note enregistr=save confirm=confirm remerci=thank demand=ask"
        " commenţ=comment comment=comment planifi=schedule programm=schedule renomm=rename archiv=archive assign=assign"
        " attribu=assign donn=give retir=remove effac=delete affect=assign verrouill=lock déverrouill=unlock postul=apply",
        ("e", "er", "ez", "é", "ée", "és", "ées"),
        "envoie=send envoies=send réponds=reply répondre=reply répondez=reply écris=write écrire=write écrivez=write dis=tell"
        " dire=tell dites=tell transfère=forward transférer=forward transférez=forward fais=make mets=set mettre=set mettez=set"
        " éteins=turn éteindre=turn éteignez=turn ouvre=open ouvrir=open ouvrez=open préviens=notify prévenir=notify"
        " prévenez=notify inscris=register inscrire=register inscrivez=register vends=sell vendre=sell rends=refund"
        " paie=pay achète=buy rappelle=remind commande=order règle=set crée=create créer=create",
    ),
    table(
        "mail=email courriel=email e-mail=email email=email message=message messages=messages fichier=file fichiers=files"
        " document=document dossier=folder rapport=report tableau=spreadsheet note=note rendez-vous=appointment réunion=meeting"
        " réunions=meetings calendrier=calendar agenda=calendar événement=event évènement=event invitation=invitation"
        " rappel=reminder facture=invoice factures=invoices paiement=payment virement=transfer montant=amount loyer=rent"
        " argent=money compte=account remboursement=refund abonnement=subscription client=customer cliente=customer"
        " clients=customers utilisateur=user collègue=colleague collègues=colleagues employé=employee passe=password"
        " hôtel=hotel chambre=room vol=flight train=train table=table restaurant=restaurant commande=order commandes=orders"
        " produit=product panier=cart lampe=lamp lumière=light lumières=lights chauffage=heating thermostat=thermostat"
        " porte=door tâche=task tâches=tasks ticket=ticket canal=channel groupe=group commentaire=comment réponse=reply"
        " liste=list adresse=address téléphone=phone patient=patient patiente=patient ordonnance=prescription statut=status"
        " priorité=priority service=service serveur=server congé=vacation congés=vacation demande=request avoir=credit"
        " colis=parcel membre=member accès=access courses=shopping"
    ),
    table(
        "le=the la=the les=the l=the un=a une=a des=the ce=the cette=the mon=my ma=my mes=my notre=our nos=our son=his sa=her"
        " tous=all toutes=all tout=all chaque=each chacun=each chacune=each moi=me nous=us et=and ou=or puis=then ensuite=then"
        " à=to au=to aux=to pour=for avec=with sur=on de=of du=of dans=in lui=him leur=them"
        " récent=latest récente=latest ancien=oldest ancienne=oldest grand=largest petit=smallest petite=smallest"
        " meilleur=best meilleure=best dernier=last dernière=last premier=first première=first"
    ),
    bag("ne n pas jamais rien aucun aucune sans"),
    bag("je j il elle on ils elles a ont avons ai était qui quel quelle quels quelles combien quand pourquoi"),
    bag("veux voudrais voulons souhaite souhaiterais aimerais doit dois devez faut plaît veuillez peux pouvez pourrais"
        " pourriez merci"),
    bag("et puis ensuite"),
    ("-moi", "-le", "-la", "-les", "-lui", "-leur", "-nous", "-en", "-y"),
)  # fmt: skip

_SPANISH: Final = Tongue(
    "spanish",
    bag("el la los las un una y es en para con por favor del al que de mi mis puedes podrías luego después todos todas esta"
        " este se le les su sus cuál"),
    _forms(
        "envi=send mand=send borr=delete elimin=delete cancel=cancel anul=cancel pag=pay reserv=reserve compr=buy cre=create"
        " cambi=change modific=change actualiz=update reembols=refund avis=notify notific=notify inform=inform invit=invite"
        " agreg=add program=schedule agend=schedule aplaz=postpone compart=share contest=reply cierr=close cerr=close"
        " reinici=restart apag=turn encend=turn ajust=set aument=increase baj=lower public=publish anot=note guard=save"
        " confirm=confirm agradec=thank pregunt=ask coment=comment asign=assign renombr=rename archiv=archive quit=remove"
        " retir=remove bloque=lock desbloque=unlock orden=order encarg=order deposit=deposit met=put",
        ("a", "ar", "e", "ado", "ada", "ados", "adas"),
        "envía=send envíe=send responde=reply responder=reply responda=reply escribe=write escribir=write escriba=write di=tell"
        " decir=tell dile=tell diles=tell añade=add añadir=add añada=add mueve=move mover=move mueva=move transfiere=transfer"
        " transferir=transfer reenvía=forward reenviar=forward reenvíe=forward pide=order pedir=order pon=set poner=set"
        " ponga=set haz=make hacer=make enciende=turn encender=turn apague=turn pague=pay comparte=share compartir=share"
        " cierra=close cierre=close abre=open abrir=open devuelve=refund devolver=refund recuerda=remind recordar=remind"
        " recuérdale=remind vende=sell vender=sell cancele=cancel anótalo=note inscribe=register inscribir=register"
        " busca=find sube=increase subir=increase",
    ),
    table(
        "correo=email correos=emails email=email e-mail=email mensaje=message mensajes=messages archivo=file archivos=files"
        " fichero=file documento=document carpeta=folder informe=report hoja=spreadsheet nota=note cita=appointment"
        " citas=appointments reunión=meeting calendario=calendar agenda=calendar evento=event invitación=invitation"
        " recordatorio=reminder factura=invoice facturas=invoices pago=payment transferencia=transfer importe=amount"
        " alquiler=rent dinero=money cuenta=account reembolso=refund suscripción=subscription cliente=customer"
        " clientes=customers usuario=user colega=colleague empleado=employee contraseña=password hotel=hotel"
        " habitación=room vuelo=flight tren=train mesa=table restaurante=restaurant pedido=order pedidos=orders producto=product"
        " carrito=cart lámpara=lamp luz=light luces=lights calefacción=heating termostato=thermostat puerta=door tarea=task"
        " tareas=tasks ticket=ticket canal=channel grupo=group comentario=comment respuesta=reply lista=list"
        " dirección=address teléfono=phone paciente=patient receta=prescription estado=status prioridad=priority"
        " servicio=service servidor=server vacaciones=vacation solicitud=request abono=credit paquete=parcel miembro=member"
        " acceso=access compra=shopping"
    ),
    table(
        "el=the la=the los=the las=the un=a una=a este=the esta=the mi=my mis=my nuestro=our nuestra=our su=her sus=her"
        " todos=all todas=all cada=each ambos=both me=me nos=us y=and o=or luego=then después=then a=to al=to para=for con=with"
        " en=in de=of del=of barato=cheapest barata=cheapest caro=dearest cara=dearest reciente=latest antiguo=oldest"
        " antigua=oldest grande=largest pequeño=smallest pequeña=smallest mejor=best último=last última=last primero=first"
        " primera=first"
    ),
    bag("no nunca jamás nada ningún ninguna sin"),
    bag("yo él ella ellos he ha han hemos había fue quién cuál cuáles qué cuándo cuánto cuántos"),
    bag("quiero quisiera queremos necesito necesitamos debe deben debes hay favor puedes podrías puede podría gustaría"),
    bag("y luego después"),
    ("selo", "sela", "selos", "selas", "melo", "mela", "noslo", "les", "los", "las", "lo", "la", "le", "me", "nos"),
)  # fmt: skip

_ITALIAN: Final = Tongue(
    "italian",
    bag("il lo la gli le un una e è di per con su mio mia miei favore puoi potresti poi dopo tutti tutte questo questa che al"
        " alla del della nel mi ai"),
    _forms(
        "invi=send mand=send cancell=delete elimin=delete annull=cancel pag=pay prenot=book ordin=order compr=buy acquist=buy"
        " cre=create cambi=change modific=change aggiorn=update rimbors=refund avvis=notify notific=notify inform=inform"
        " invit=invite program=schedule pianific=schedule spost=move rinvi=postpone riavvi=restart impost=set aument=increase"
        " abbass=lower pubblic=publish annot=note salv=save conferm=confirm ringrazi=thank comment=comment assegn=assign"
        " rinomin=rename archivi=archive bonific=transfer blocc=lock sblocc=unlock inoltr=forward ricord=remind regol=set"
        " prepar=prepare",
        ("a", "are", "i", "ate", "ato", "ata", "ati"),
        "rispondi=reply rispondere=reply risponda=reply scrivi=write scrivere=write scriva=write di'=tell dì=tell dire=tell"
        " aggiungi=add aggiungere=add aggiunga=add trasferisci=transfer trasferire=transfer condividi=share condividere=share"
        " chiudi=close chiudere=close apri=open aprire=open spegni=turn spegnere=turn accendi=turn accendere=turn metti=put"
        " mettere=put chiedi=ask chiedere=ask rimuovi=remove rimuovere=remove disdici=cancel disdire=cancel"
        " iscrivi=register iscrivere=register vendi=sell vendere=sell paghi=pay annulli=cancel fissa=schedule fissare=schedule"
        " sposti=move restituisci=refund restituire=refund togli=remove",
    ),
    table(
        "mail=email e-mail=email email=email posta=email messaggio=message messaggi=messages file=file documento=document"
        " cartella=folder rapporto=report relazione=report foglio=spreadsheet nota=note appuntamento=appointment"
        " appuntamenti=appointments riunione=meeting calendario=calendar evento=event invito=invitation promemoria=reminder"
        " fattura=invoice fatture=invoices pagamento=payment bonifico=transfer importo=amount affitto=rent soldi=money"
        " conto=account rimborso=refund abbonamento=subscription cliente=customer clienti=customers utente=user"
        " collega=colleague colleghi=colleagues dipendente=employee password=password hotel=hotel albergo=hotel camera=room"
        " volo=flight treno=train tavolo=table ristorante=restaurant ordine=order ordini=orders prodotto=product"
        " carrello=cart lampada=lamp luce=light luci=lights riscaldamento=heating termostato=thermostat porta=door"
        " compito=task attività=task ticket=ticket canale=channel gruppo=group commento=comment risposta=reply lista=list"
        " indirizzo=address telefono=phone paziente=patient ricetta=prescription stato=status priorità=priority"
        " servizio=service server=server ferie=vacation richiesta=request accredito=credit pacco=parcel membro=member"
        " accesso=access spesa=shopping"
    ),
    table(
        "il=the lo=the la=the i=the gli=the le=the l=the un=a una=a uno=a questo=the questa=the mio=my mia=my miei=my mie=my"
        " nostro=our nostra=our suo=his sua=her tutti=all tutte=all ogni=each ciascuno=each ciascun=each entrambi=both mi=me"
        " ci=us e=and ed=and o=or poi=then dopo=then a=to al=to alla=to ai=to agli=to per=for con=with in=in nel=in di=of"
        " del=of della=of economico=cheapest economica=cheapest costoso=dearest costosa=dearest recente=latest vecchio=oldest"
        " vecchia=oldest grande=largest piccolo=smallest piccola=smallest migliore=best ultimo=last ultima=last primo=first"
        " prima=first"
    ),
    bag("non mai nulla niente nessun nessuna senza"),
    bag("io lui lei loro ho ha hanno abbiamo aveva era chi che quale quali quando quanto quanti"),
    bag("vorrei vogliamo voglio devi deve devono bisogna favore puoi potresti può potrebbe"),
    bag("e ed poi dopo"),
    ("glielo", "gliela", "glieli", "melo", "mela", "cela", "gli", "lo", "la", "li", "le", "mi", "ci", "ne"),
)  # fmt: skip


def _with_more(tongue: Tongue, endings: tuple[str, ...]) -> Tongue:
    """Return a language with the words of `tongue_words.py`; what stands here already keeps its meaning."""
    verbs = _forms(tongue_words.VERB_STEMS[tongue.name], endings, tongue_words.VERB_FORMS[tongue.name])
    nouns, small = table(tongue_words.NOUNS[tongue.name]), table(tongue_words.SMALL[tongue.name])
    return replace(
        tongue, verbs={**verbs, **tongue.verbs}, nouns={**nouns, **tongue.nouns}, small={**small, **tongue.small}
    )


TONGUES: Final = (
    _with_more(_GERMAN, ("", "e", "en", "n", "t")),
    _with_more(_FRENCH, ("e", "er", "ez", "é", "ée", "és", "ées")),
    _with_more(_SPANISH, ("a", "ar", "e", "er", "ir", "ado", "ada", "ido")),
    _with_more(_ITALIAN, ("a", "are", "i", "isci", "ire", "ere", "ato", "ata", "ito")),
)
_ENGLISH: Final = bag(
    "the and of is are to for with my please you that this it what which when all me on from by can could send"
)
_SIGNS_MIN: Final = 2
_COPULAS: Final = bag("ist sind war waren wurde est sont été était es está están fue è sono stato stata viene")
"""A participle straight after one of these tells how something is."""
_GENERIC: Final = bag("make start set give add create")


def tongue_of(text: str) -> Tongue | None:
    """Return the language of a prompt when its small words speak more for it than for English, or None."""
    found = re.findall(r"[^\W\d_]+", text.lower())
    english = sum(word in _ENGLISH or word in lexicon.VERB_GROUPS or word in lexicon.OBJECT_GROUPS for word in found)
    best, most = None, max(english, _SIGNS_MIN - 1)
    for tongue in TONGUES:
        tables = (tongue.signs, tongue.small, tongue.wishes, tongue.denies, tongue.verbs, tongue.nouns)
        score = sum(any(word in table for table in tables) for word in found)
        if score > most:
            best, most = tongue, score
    return best


def english(tokens: list[str], tongue: Tongue) -> list[str]:
    """Return the tokens of one sentence with what the planner knows in English, the verb of each clause first."""
    found: list[str] = []
    clause: list[str] = []
    for word in [part for raw in tokens for part in _apart(raw, tongue)]:
        comma = word == ","
        if comma or (word.lower() in tongue.breaks and _has_verb(clause, tongue)):
            found += [*_clause(clause, tongue), "," if comma else "and"]
            clause = []
        else:
            clause.append(word)
    return [*found, *_clause(clause, tongue)]


def _apart(token: str, tongue: Tongue) -> list[str]:
    """Return a word without the article or pronoun that is written together with it (`l'invitation`, `envoie-lui`)."""
    head, mark, tail = token.partition("'") if "'" in token else token.partition("’")
    if mark and len(head) <= 2 and tail and tongue.name in ("french", "italian"):
        return [head, tail]
    for clitic in tongue.clitics:
        stem = token[: -len(clitic)]
        if token.lower().endswith(clitic) and (_plain(stem.lower(), tongue) in tongue.verbs):
            pronoun = "me" if clitic.lstrip("-") in ("moi", "me", "mi", "nous", "nos", "ci") else "it"
            return [stem, f"⟦{pronoun}⟧"] if token.lower() not in tongue.verbs else [token]
    return [token]


def _plain(word: str, tongue: Tongue) -> str:
    """Return a verb's form as the table has it: Spanish writes an accent when a pronoun is added."""
    if word in tongue.verbs or tongue.name != "spanish":
        return word
    return word.translate(str.maketrans("áéíóú", "aeiou"))


def _has_verb(clause: list[str], tongue: Tongue) -> bool:
    return any(_plain(token.lower(), tongue) in tongue.verbs for token in clause)


def _clause(clause: list[str], tongue: Tongue) -> list[str]:
    words = [token.lower() for token in clause]
    verbs: list[str] = []
    places: set[int] = set()
    for index, word in enumerate(words):
        form = _plain(word, tongue)
        if form not in tongue.verbs or (tongue.compounds and index and clause[index][0].isupper()):
            continue  # a capital inside a German sentence is a noun
        article = index and tongue.small.get(words[index - 1], "") in ("the", "a", "my", "our", "his", "her")
        if (article and not tongue.compounds) or (index and words[index - 1] in _COPULAS):
            continue
        verbs.append(_separable(tongue.verbs[form], words))
        places.add(index)
    commands = 0 in places and len(words) > 1 and words[1] not in tongue.states
    said = (
        words[:COMMAND_WORDS] if commands else words
    )  # `Écris-lui qu'il n'y a pas de place`: what follows is what to write
    tells = bool(tongue.states & set(said)) or (
        words[:1] != [] and words[0] in _COPULAS
    )  # `Ist der Termin verschoben?`
    asks = not tongue.denies & set(said) and (not tells or bool(tongue.wishes & set(words)))
    if not verbs or not asks:
        return [_word(token, tongue) for token in clause]
    rest = [_word(token, tongue) for index, token in enumerate(clause) if index not in places]
    main = next((verb for verb in verbs if verb not in _GENERIC), verbs[0])
    others = [word for verb in dict.fromkeys(verbs) if verb != main for word in ("please", verb, ",")]
    return [*others, "please", main, *rest]


def _separable(verb: str, words: list[str]) -> str:
    """Return the verb that a German particle at the end of the clause makes of it (`sag … ab`, `leg … an`)."""
    return _PARTICLES.get((verb, words[-1] if words else ""), verb)


_PARTICLES: Final = {
    ("tell", "ab"): "cancel", ("create", "an"): "create", ("forward", "weiter"): "forward", ("share", "mit"): "tell",
    ("invite", "ein"): "invite", ("add", "ein"): "add", ("add", "hinzu"): "add", ("assign", "zu"): "assign",
    ("set", "aus"): "issue", ("send", "ab"): "send", ("assign", "ab"): "reject", ("take", "auf"): "admit",
    ("take", "an"): "accept",
    ("reject", "ab"): "reject", ("give", "weiter"): "forward", ("give", "bescheid"): "tell", ("tell", "bescheid"): "tell",
    ("invite", "hoch"): "upload", ("attach", "an"): "attach", ("create", "ab"): "save", ("book", "um"): "reschedule",
    ("book", "ein"): "book",
    ("withdraw", "zurück"): "withdraw", ("ask", "nach"): "ask", ("stop", "an"): "stop", ("note", "ein"): "add",
    ("report", "an"): "register",
    ("report", "ab"): "unsubscribe", ("set", "fest"): "schedule", ("create", "fest"): "schedule", ("tell", "zu"): "accept",
    ("transfer", "zurück"): "refund", ("send", "zurück"): "refund", ("give", "zurück"): "refund",
    ("pay", "zurück"): "refund", ("set", "an"): "change",
    ("make", "aus"): "turn", ("make", "an"): "turn", ("make", "zu"): "close", ("set", "ein"): "set",
    ("start", "neu"): "restart",
    ("give", "frei"): "share", ("run", "aus"): "run", ("set", "um"): "change", ("order", "ab"): "unsubscribe",
}  # fmt: skip


def _word(token: str, tongue: Tongue) -> str:
    if token.startswith("⟦"):
        return token.strip("⟦⟧")
    word = token.lower()
    known = tongue.small.get(word) or tongue.nouns.get(word)
    if known:
        return known
    if tongue.compounds and token[:1].isupper() and word.isalpha():
        for size in range(len(word) - 1, COMPOUND_CHARS_MIN - 1, -1):
            if word[-size:] in tongue.nouns:
                return tongue.nouns[word[-size:]]
    return token
