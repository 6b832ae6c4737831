"""What the issues ask for, sentence by sentence, with the installed command and the library."""
