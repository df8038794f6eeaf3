"""Words and sentences of five languages for the facts about citizens, with accents, genders and articles."""


def words(text, separator=None):
    """'cup bell' -> ('cup', 'bell')."""
    return tuple(text.split(separator))


def table(text, separator=None):
    """One tuple of words per line of a text."""
    return tuple(words(line, separator) for line in text.strip().splitlines())


LANGUAGES = ("English", "French", "Italian", "German", "Spanish")

# English (begins with a consonant: always "a"), then French, Italian, German, Spanish; "he/she" where they differ.
TRADES = table(
    """
baker boulanger/boulangère fornaio/fornaia Bäcker/Bäckerin panadero/panadera
teacher instituteur/institutrice maestro/maestra Lehrer/Lehrerin maestro/maestra
gardener jardinier/jardinière giardiniere/giardiniera Gärtner/Gärtnerin jardinero/jardinera
hairdresser coiffeur/coiffeuse parrucchiere/parrucchiera Friseur/Friseurin peluquero/peluquera
fisher pêcheur/pêcheuse pescatore/pescatrice Fischer/Fischerin pescador/pescadora
carpenter menuisier/menuisière falegname Tischler/Tischlerin carpintero/carpintera
nurse infirmier/infirmière infermiere/infermiera Krankenpfleger/Krankenpflegerin enfermero/enfermera
doctor médecin dottore/dottoressa Arzt/Ärztin médico/médica
writer écrivain/écrivaine scrittore/scrittrice Schriftsteller/Schriftstellerin escritor/escritora
painter peintre pittore/pittrice Maler/Malerin pintor/pintora
singer chanteur/chanteuse cantante Sänger/Sängerin cantante
dancer danseur/danseuse ballerino/ballerina Tänzer/Tänzerin bailarín/bailarina
cook cuisinier/cuisinière cuoco/cuoca Koch/Köchin cocinero/cocinera
farmer agriculteur/agricultrice contadino/contadina Bauer/Bäuerin granjero/granjera
librarian bibliothécaire bibliotecario/bibliotecaria Bibliothekar/Bibliothekarin bibliotecario/bibliotecaria
pharmacist pharmacien/pharmacienne farmacista Apotheker/Apothekerin farmacéutico/farmacéutica
photographer photographe fotografo/fotografa Fotograf/Fotografin fotógrafo/fotógrafa
lawyer avocat/avocate avvocato/avvocata Anwalt/Anwältin abogado/abogada
"""
)

# With the article after "joue", "suona" and "toca"; German has none.
INSTRUMENTS = table(
    """
violin, du violon, il violino, Geige, el violín
cello, du violoncelle, il violoncello, Cello, el violonchelo
piano, du piano, il pianoforte, Klavier, el piano
flute, de la flûte, il flauto, Flöte, la flauta
guitar, de la guitare, la chitarra, Gitarre, la guitarra
harp, de la harpe, l'arpa, Harfe, el arpa
trumpet, de la trompette, la tromba, Trompete, la trompeta
clarinet, de la clarinette, il clarinetto, Klarinette, el clarinete
drum, du tambour, il tamburo, Trommel, el tambor
organ, de l'orgue, l'organo, Orgel, el órgano
oboe, du hautbois, l'oboe, Oboe, el oboe
bassoon, du basson, il fagotto, Fagott, el fagot
horn, du cor, il corno, Horn, la trompa
trombone, du trombone, il trombone, Posaune, el trombón
accordion, de l'accordéon, la fisarmonica, Akkordeon, el acordeón
mandolin, de la mandoline, il mandolino, Mandoline, la mandolina
saxophone, du saxophone, il sassofono, Saxophon, el saxofón
lute, du luth, il liuto, Laute, el laúd
""",
    ", ",
)

# With the article after "has", "a", "ha", "hat", "tiene".
ANIMALS = table(
    """
cat, un chat, un gatto, eine Katze, un gato
dog, un chien, un cane, einen Hund, un perro
horse, un cheval, un cavallo, ein Pferd, un caballo
goat, une chèvre, una capra, eine Ziege, una cabra
duck, un canard, un'anatra, eine Ente, un pato
rabbit, un lapin, un coniglio, ein Kaninchen, un conejo
parrot, un perroquet, un pappagallo, einen Papagei, un loro
tortoise, une tortue, una tartaruga, eine Schildkröte, una tortuga
donkey, un âne, un asino, einen Esel, un burro
sheep, un mouton, una pecora, ein Schaf, una oveja
cow, une vache, una mucca, eine Kuh, una vaca
pig, un cochon, un maiale, ein Schwein, un cerdo
hen, une poule, una gallina, eine Henne, una gallina
frog, une grenouille, una rana, einen Frosch, una rana
canary, un canari, un canarino, einen Kanarienvogel, un canario
fox, un renard, una volpe, einen Fuchs, un zorro
goose, une oie, un'oca, eine Gans, un ganso
mouse, une souris, un topo, eine Maus, un ratón
""",
    ", ",
)

# "a red house", "une maison rouge", "una casa rossa", "in einem roten Haus", "una casa roja".
HOUSES = table(
    """
red rouge rossa roten roja
blue bleue blu blauen azul
green verte verde grünen verde
yellow jaune gialla gelben amarilla
white blanche bianca weißen blanca
black noire nera schwarzen negra
grey grise grigia grauen gris
pink rose rosa rosafarbenen rosada
brown brune marrone braunen marrón
purple violette viola violetten violeta
golden dorée dorata goldenen dorada
silver argentée argentata silbernen plateada
"""
)

# Invented names, the same in every language.
BIRTHPLACES = tuple(
    (name,) * 5
    for name in words(
        "Lindholm Marbeau Castelrosso Tarnow Brunnen Valmora Kesteren Duncarn Solano Grimstad Rovella Perlach "
        "Montaigu Berwold Cordiva Selmira Norwick Falstad Trevano Garonde Welburg Kalmarin Pontello Zelburn"
    )
)

ATTRIBUTES = {
    "trade": TRADES,
    "birthplace": BIRTHPLACES,
    "instrument": INSTRUMENTS,
    "animal": ANIMALS,
    "house": HOUSES,
}

ENGLISH = {attribute: tuple(row[0] for row in rows) for attribute, rows in ATTRIBUTES.items()}

# The sentence after its subject, one row per attribute. {v}: the word from the table. {e}: the participle's ending.
CLAUSES = table(
    """
works as a {v}|est {v}|è {v}|ist {v}|es {v}
was born in {v}|est né{e} à {v}|è nat{e} a {v}|wurde in {v} geboren|nació en {v}
plays the {v}|joue {v}|suona {v}|spielt {v}|toca {v}
has a {v}|a {v}|ha {v}|hat {v}|tiene {v}
lives in a {v} house|habite une maison {v}|abita in una casa {v}|wohnt in einem {v} Haus|vive en una casa {v}
""",
    "|",
)
CLAUSES = dict(zip(ATTRIBUTES, CLAUSES, strict=True))

# (masculine, feminine) of each language. Italian and Spanish have no pronoun here.
PRONOUNS = (("He", "She"), ("Il", "Elle"), ("", ""), ("Er", "Sie"), ("", ""))
ENDINGS = (("", ""), ("", "e"), ("o", "a"), ("", ""), ("", ""))

GREETINGS = {
    "English": words("Good morning.|Listen.|Look.|By the way:|Believe me:|It is true:|Well,|Good news:", "|"),
    "French": words("Bonjour.|Écoutez.|Regardez.|Au fait :|Croyez-moi :|C'est vrai :|Eh bien,|Bonne nouvelle :", "|"),
    "Italian": words("Buongiorno.|Ascoltate.|Guardate.|A proposito:|Credetemi:|È vero:|Ebbene,|Buone notizie:", "|"),
    "German": words("Guten Morgen.|Hört zu.|Schaut.|Übrigens:|Glaubt mir:|Es ist wahr:|Nun,|Gute Nachricht:", "|"),
    "Spanish": words("Buenos días.|Escuchad.|Mirad.|Por cierto:|Creedme:|Es verdad:|Pues bien,|Buenas noticias:", "|"),
}


def sentence(language, attribute, value, is_woman, subject=None):
    """One fact as a sentence: 'Elle joue du violon.', or with a subject: 'Ines Valmer joue du violon.'

    value: the row of the attribute's table.
    """
    column = LANGUAGES.index(language)
    he, _, she = ATTRIBUTES[attribute][value][column].partition("/")
    subject = PRONOUNS[column][is_woman] if subject is None else subject
    clause = CLAUSES[attribute][column].format(v=(she or he) if is_woman else he, e=ENDINGS[column][is_woman])
    text = f"{subject} {clause}".strip()
    return text[0].upper() + text[1:] + "."
