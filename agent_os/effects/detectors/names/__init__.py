"""Names by word lists and the words around them: words -> organisations, places, people, nations -> finder."""
