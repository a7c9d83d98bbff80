"""The segment table: cohorts' lists, the directory, and the segments that both give.

A *list* is the ids of a cohort, as Amplitude says; the *directory* is the users OneSignal knows.
A *segment* is their join. Its members are not stored, so that they cannot disagree with either;
what is stored are its figures and every change, written in the very transaction that changes a
list or the directory.

What becomes of a cohort, state by state, and the word for each:

    export        Amplitude's job, asked for and waited for
    file          what the export yields, read once and in pieces
    staged list   the file's distinct ids, in the table beside the list in force
    delta         the ids by which a list differs from the one in force: who enters, who leaves
    list in force the list that the segment is joined from
    revision      a state of the segment; each change of its members makes the next one

A *run* is the record of one attempt to get there, from whatever source. A *computation* is
Amplitude's: the members as of one `computed_at`, which come in one file or in many webhook
messages. An *override* is the newest webhook message about one user of a cohort.
"""
