"""More words of the four languages beside English, by language: stems of verbs, forms of verbs, nouns, small words. Data only.

Kept apart from `tongues.py`, which has the rules. A word that is missing here is a request that is not understood, and asks;
a word that is wrong here widens a scope, so only words with one common meaning stand here.
"""

from __future__ import annotations

from typing import Final

VERB_STEMS: Final = {
    "german": "entscheid=decide stopp=stop paus=pause pausier=pause aktivier=activate deaktivier=deactivate"
    " genehmig=approve bewillig=approve"
    " akzeptier=accept ergänz=add korrigier=correct berichtig=correct verläng=extend verlänger=extend verkürz=reduce"
    " notier=note vermerk=note dokumentier=record protokollier=record erfass=record registrier=register"
    " anmeld=register übermittl=send übersend=send übermittel=send versend=send verschick=send lief=deliver"
    " beantrag=request verordn=order verschreib=prescribe veranlass=order verteil=share veranstalt=organize"
    " organisier=organize markier=mark kennzeichn=mark bewert=rate kopier=copy duplizier=copy sicher=save"
    " ersetz=replace tausch=swap verbind=link verknüpf=link trenn=unlink prüf=check überprüf=check entzieh=revoke"
    " widerruf=revoke gewähr=grant erlaub=allow verbiet=forbid beauftrag=order buchst=book umbuch=reschedule"
    " verleih=grant hinterleg=save hinterlass=leave meld=report starte=start beend=stop unterbrech=pause begleich=pay"
    " zahl=pay anweis=transfer zuweis=assign beschaff=buy ernenn=promote lad=invite übergeb=assign entlass=discharge"
    " skalier=scale trigger=trigger",
    "french": "décid=decide dépos=submit soumett=submit bloqu=block débloqu=unblock arrêt=stop stopp=stop activ=activate"
    " désactiv=deactivate"
    " approuv=approve accept=accept refus=reject rejet=reject valid=approve prolong=extend réduis=reduce diminu=reduce"
    " corrig=correct complèt=fill publi=publish télécharg=download import=import export=export copi=copy dupliqu=copy"
    " remplac=replace échang=swap signal=report répar=fix relanc=restart suspend=suspend repris=resume vir=transfer"
    " virer=transfer encaiss=charge factur=invoice épingl=pin étiquet=tag marqu=mark class=file rang=move"
    " consign=record inscri=register abonn=subscribe désabonn=unsubscribe livr=deliver expédi=send transmet=send"
    " communiqu=inform prescri=prescribe réinitialis=reset configur=configure autoris=allow",
    "spanish": "decid=decide detien=stop par=stop activ=activate desactiv=deactivate aprob=approve acept=accept"
    " rechaz=reject autoriz=allow"
    " deneg=deny valid=approve prolong=extend ampli=extend reduc=reduce disminu=reduce corrig=correct complet=fill"
    " rellen=fill import=import export=export copi=copy duplic=copy reemplaz=replace sustitu=replace intercambi=swap"
    " report=report repar=fix suspend=suspend reanud=resume factur=invoice cobr=charge etiquet=tag marc=mark"
    " archiv=archive registr=record suscrib=subscribe entreg=deliver remit=send despach=ship restablec=reset"
    " configur=configure permit=allow adjunt=attach redact=draft solicit=request tramit=submit present=submit abon=pay"
    " transfi=transfer ingres=deposit liquid=pay",
    "italian": "decid=decide ferm=stop attiv=activate disattiv=deactivate approv=approve accett=accept rifiut=reject"
    " autorizz=allow"
    " convalid=approve prolung=extend riduc=reduce diminu=reduce corregg=correct complet=fill compil=fill"
    " import=import esport=export copi=copy duplic=copy sostitu=replace scambi=swap segnal=report ripar=fix"
    " sospend=suspend fattur=invoice etichett=tag contrassegn=mark registr=record consegn=deliver spedi=send"
    " trasmett=send ripristin=reset configur=configure permett=allow alleg=attach richied=request present=submit"
    " vers=pay salda=pay accredit=credit",
}  # fmt: skip
"""Language -> stems that take the endings of its regular verbs."""

VERB_FORMS: Final = {
    "german": "schieb=move schiebe=move schieben=move absetzen=stop setze=set setz=set halte=hold halt=hold anhalten=hold"
    " gib=give leg=put lege=put häng=attach ruf=call rufe=call nimm=take trag=add trage=add eröffne=open eröffnen=open"
    " schließen=close abschließen=close beende=stop beenden=stop verschicke=send ausstellen=issue stell=set zurückweisen=reject"
    " befördern=promote versetzen=move versetze=move kündigen=cancel auszahlen=pay einzahlen=deposit abheben=withdraw"
    " umschreiben=change vorziehen=reschedule verlegen=move überweisen=transfer erlasse=waive erlassen=waive"
    " sperrst=block sperre=block blockier=block blockiere=block blockieren=block überweis=transfer überweise=transfer"
    " stelle=set nimm=take nehmen=take verschieben=move umbuchen=reschedule absenden=send abschicken=send"
    " anhängen=attach häng=attach hänge=attach beifügen=attach füg=add ablehnen=reject lehn=reject lehne=reject"
    " abgelehnt=reject genehmigt=approve bewilligt=approve zurückziehen=withdraw hochladen=upload"
    " herunterladen=download freigeben=share freigegeben=share weitergeben=forward aufnehmen=admit eintrage=add"
    " eingestellt=set verlängert=extend dokumentiert=record gemeldet=report abgesagt=cancel angehängt=attach"
    " gestoppt=stop gesperrt=lock stornieren=cancel umgebucht=reschedule zugewiesen=assign übertrag=transfer"
    " übertragen=transfer verordnet=order bescheid=tell benenn=rename zahle=pay begleiche=pay schickst=send"
    " antworten=reply bittest=ask bitt=ask",
    "french": "envoie=send envoies=send écris=write écrire=write écrivez=write rejette=reject appelle=call paie=pay paye=pay"
    " mets=set remets=set fais=make ouvre=open ouvrir=open poste=post poster=post postez=post prenez=take mettez=set faites=make"
    " dites=tell délivre=issue délivrer=issue complète=fill achète=buy règle=pay réglez=pay relève=raise baisse=lower"
    " augmente=increase augmenter=increase transfère=transfer répète=repeat préviens=notify prévenir=notify prévenez=notify"
    " avertis=notify avertir=notify avertissez=notify enlève=remove enlever=remove retire=remove retirer=remove"
    " enregistre=record enregistrer=record enregistrez=record bloque=block bloquer=block bloquez=block"
    " prescris=prescribe joins=attach joindre=attach joignez=attach suspends=suspend suspendre=suspend reprends=resume"
    " reprendre=resume soumets=submit soumettre=submit dépose=submit déposer=submit déposez=submit vire=transfer"
    " remplis=fill remplir=fill permets=allow transmets=send complète=fill promeus=promote prends=take"
    " reporte=postpone reporter=postpone fixe=schedule fixer=schedule mute=move",
    "spanish": "avísale=notify avisarle=notify dígale=tell comunícale=tell págale=pay resérvale=reserve cámbiale=change"
    " devuélvele=refund mueve=move sube=increase baja=lower abre=open cierra=close pide=order vende=sell haz=make pon=set"
    " retíralo=remove bórralo=delete cancélalo=cancel asígnala=assign asígnalo=assign apruébalo=approve recházalo=reject"
    " detén=stop detener=stop mándale=send mándales=send envíale=send aprueba=approve aprobar=approve apruebe=approve"
    " adjunta=attach adjuntar=attach rechaza=reject deniega=deny reduce=reduce suspende=suspend suspender=suspend"
    " permite=allow da=give dar=give dale=give ponle=set ponlo=set quítale=remove incluye=add incluir=add"
    " concede=grant conceder=grant sustituye=replace registra=record solicita=request ingresa=deposit reserva=reserve"
    " apunta=add apúntame=register introduce=enter mete=add asigna=assign",
    "italian": "avvisalo=notify avvisala=notify dille=tell digli=tell cancellalo=delete spostalo=move spostala=move"
    " approvalo=approve rifiutalo=reject assegnalo=assign chiudilo=close prenotalo=book mettilo=set alza=increase abbassa=lower"
    " sospendi=suspend sospendere=suspend riduci=reduce ridurre=reduce correggi=correct spedisci=send spedire=send"
    " concedi=grant concedere=grant permetti=allow allega=attach allegare=attach sostituisci=replace richiedi=request"
    " richiedere=request includi=add inserisci=add inserire=add dai=give dare=give inviagli=send mandagli=send"
    " restituire=refund ripristina=reset",
}  # fmt: skip
"""Language -> whole forms, irregular or with one meaning only."""

NOUNS: Final = {
    "german": "bürger=citizen bürgerin=citizen schüler=student schülerin=student studierende=student mieter=tenant"
    " mieterin=tenant"
    " gast=guest gäste=guests fahrgast=passenger lehrer=teacher ticket=ticket auftrag=order aufträge=orders charge=batch"
    " wohnung=flat kündigung=cancellation urkunde=certificate bescheinigung=certificate lebenslauf=resume nachtrag=note"
    " karte=card kreditkarte=card vertrag=contract verträge=contracts instanz=instance instanzen=instances"
    " rezepte=prescriptions medikament=medication medikamente=medication medikation=medication dosis=dose"
    " dosierung=dose befund=result befunde=results arzt=doctor ärztin=doctor brief=letter briefe=letters"
    " arztbrief=letter bett=bed station=ward akte=record patientenakte=record verordnung=prescription labor=lab"
    " untersuchung=examination behandlung=treatment operation=operation vermerk=note kommentare=comments angebot=quote"
    " angebote=quotes lieferung=delivery lieferschein=delivery lager=inventory bestand=stock preis=price preise=prices"
    " rabatt=discount gutschein=coupon raum=room räume=rooms kurs=course kurse=courses prüfung=exam fahrzeug=vehicle"
    " fahrer=driver fahrt=ride route=route schicht=shift schichten=shifts dienstplan=schedule bewerbung=application"
    " bewerber=applicant stelle=job gehalt=salary spesen=expense auslagen=expense buchung=booking buchungen=booking"
    " reservierung=booking karten=cards stunden=hours zeit=time projekt=project projekte=projects anlage=attachment"
    " unterlagen=documents foto=photo bild=photo rechnungsbetrag=amount lastschrift=debit passwörter=password"
    " rolle=role berechtigung=permission rechte=permission variable=variable wecker=alarm",
    "french": "habitant=resident habitants=residents habitante=resident élève=student élèves=students locataire=tenant"
    " client=customer rdv=appointment rendez-vous=appointment demande=request demandes=requests acte=certificate"
    " attestation=certificate courrier=mail courriel=mail lot=batch logement=flat bail=lease fiche=record"
    " carte=card contrat=contract contrats=contracts instance=instance heure=hour heures=hours requête=motion"
    " lettre=letter lit=bed médicament=medication dose=dose médecin=doctor résultat=result dossier=file devis=quote"
    " livraison=delivery stock=stock prix=price remise=discount bon=coupon salle=room cours=course examen=exam"
    " véhicule=vehicle chauffeur=driver trajet=ride candidature=application candidat=applicant poste=job"
    " salaire=salary frais=expense réservation=booking projet=project pièce=attachment photo=photo rôle=role"
    " droit=permission droits=permission variable=variable alarme=alarm étiquette=label branche=branch"
    " dépôt=repository",
    "spanish": "ciudadano=citizen alumno=student alumna=student inquilino=tenant pasajero=passenger huésped=guest"
    " cliente=customer"
    " cita=appointment solicitud=request certificado=certificate lote=batch piso=flat ficha=record tripulación=crew"
    " tarjeta=card contrato=contract contratos=contracts instancia=instance hora=hour horas=hours carta=letter"
    " cama=bed medicamento=medication dosis=dose médico=doctor resultado=result expediente=file presupuesto=quote"
    " entrega=delivery existencias=stock precio=price descuento=discount cupón=coupon sala=room curso=course"
    " examen=exam vehículo=vehicle conductor=driver viaje=ride candidatura=application candidato=applicant puesto=job"
    " sueldo=salary gastos=expense reserva=booking proyecto=project adjunto=attachment foto=photo rol=role"
    " permiso=permission colaborador=collaborator colaboradora=collaborator repositorio=repository rama=branch"
    " variable=variable alarma=alarm etiqueta=label",
    "italian": "cittadino=citizen alunno=student studente=student inquilino=tenant passeggero=passenger ospite=guest"
    " appuntamento=appointment richiesta=request certificato=certificate lotto=batch appartamento=flat scheda=record"
    " carta=card contratto=contract contratti=contracts istanza=instance ora=hour ore=hours lettera=letter letto=bed"
    " farmaco=medication dose=dose medico=doctor risultato=result pratica=file preventivo=quote consegna=delivery"
    " magazzino=stock prezzo=price sconto=discount buono=coupon sala=room corso=course esame=exam veicolo=vehicle"
    " autista=driver viaggio=ride candidatura=application candidato=applicant posto=job stipendio=salary spese=expense"
    " prenotazione=booking progetto=project allegato=attachment foto=photo ruolo=role permesso=permission"
    " repository=repository ramo=branch variabile=variable allarme=alarm etichetta=label",
}  # fmt: skip
"""Language -> nouns."""

SMALL: Final = {
    "german": "spätere=later späteren=later frühere=earlier früheren=earlier ältere=older älteren=older neuere=newer"
    " neueren=newer schnellste=fastest schnellsten=fastest billigere=cheaper günstigere=cheaper teurere=dearest"
    " ersten=first erste=first heute=today morgen=tomorrow",
    "french": "plus=more ancienne=oldest chère=dearest rapide=fastest proche=nearest",
    "spanish": "antigua=oldest nueva=newest nuevo=newest rápido=fastest rápida=fastest próximo=nearest próxima=nearest",
    "italian": "vecchi=oldest nuovo=newest nuova=newest rapido=fastest prossimo=nearest prossima=nearest",
}  # fmt: skip
"""Language -> words of choice and of time."""

READING: Final = {
    "german": "suchen=search such=search suche=search lesen=read lies=read lese=read anzeigen=show zeigen=show zeig=show"
    " zeige=show auflisten=list liste=list holen=get hole=get abrufen=get abfragen=query finden=find finde=find"
    " ansehen=view einsehen=view"
    " nachsehen=look schau=look",
    "french": "chercher=search cherche=search rechercher=search recherche=search lister=list lire=read lis=read afficher=show"
    " affiche=show consulter=view consulte=view trouver=find trouve=find obtenir=get regarde=look regarder=look",
    "spanish": "buscar=search busque=search listar=list lista=list leer=read lee=read mostrar=show muestra=show consultar=view"
    " consulta=view encontrar=find encuentra=find obtener=get ver=view mira=look",
    "italian": "cercare=search cerca=search elencare=list elenca=list leggere=read leggi=read mostrare=show mostra=show"
    " visualizzare=view visualizza=view trovare=find trova=find ottenere=get guarda=look",
}  # fmt: skip
"""Language -> verbs that only read: what tools are called."""

FIELDS: Final = {
    "german": "datum=date tag=day uhrzeit=time beginn=start ende=end zeitpunkt=time frist=deadline bis=until betreff=subject"
    " text=text inhalt=content bemerkung=note hinweis=note grund=reason zweck=purpose beschreibung=description titel=title"
    " empfänger=recipient absender=sender an=to von=from anzahl=quantity menge=quantity summe=amount wert=value preis=price"
    " nummer=number kennung=id art=kind typ=type sprache=language suche=search ziel=destination name=name vorname=name"
    " nachname=name mail=email telefon=phone anhang=attachment anhänge=attachments belegung=availability frei=free"
    " verfügbar=available zustand=status übersicht=overview verlauf=history postfach=inbox eingang=inbox bestand=stock",
    "french": "jour=day heure=time début=start debut=start fin=end échéance=deadline jusque=until objet=subject texte=text"
    " contenu=content remarque=note motif=reason raison=reason but=purpose description=description titre=title"
    " destinataire=recipient expéditeur=sender a=to à=to de=from quantité=quantity nombre=count montant=amount somme=amount"
    " valeur=value numéro=number genre=kind langue=language nom=name prénom=name courriel=email téléphone=phone"
    " pièces=attachments disponible=available libre=free créneaux=availability état=status aperçu=overview historique=history"
    " reçus=inbox boîte=inbox",
    "spanish": "fecha=date día=day hora=time inicio=start fin=end plazo=deadline hasta=until asunto=subject texto=text"
    " contenido=content observación=note motivo=reason razón=reason descripción=description título=title"
    " destinatario=recipient remitente=sender para=to de=from cantidad=quantity importe=amount monto=amount valor=value"
    " número=number tipo=type idioma=language nombre=name apellido=name correo=email teléfono=phone adjuntos=attachments"
    " disponible=available disponibles=available libre=free libres=free resumen=overview historial=history bandeja=inbox",
    "italian": "data=date giorno=day inizio=start fine=end scadenza=deadline fino=until oggetto=subject testo=text"
    " contenuto=content nota=note motivo=reason descrizione=description titolo=title destinatario=recipient mittente=sender"
    " a=to da=from quantità=quantity numero=number importo=amount valore=value tipo=type lingua=language nome=name"
    " cognome=name posta=email telefono=phone allegati=attachments disponibile=available disponibili=available libero=free"
    " liberi=free riepilogo=overview storico=history",
}  # fmt: skip
"""Language -> names of arguments and fields, and of what a tool shows."""
