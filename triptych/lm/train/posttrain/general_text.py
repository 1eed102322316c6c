"""A page of plain English on which forgetting is measured where no other text is named.

Written for this purpose, so that it is in no corpus and the same on every machine.
"""

TEXT = """\
The harbour of a small town is busiest before sunrise. Boats come in with the night's catch, and
the people who clean and sort the fish have been at work since four. By seven the trucks are
loaded. What stays is sold at the market behind the church, where a kilogram of mackerel costs a
little more than it did last year. The prices are written with chalk on a black board, and they
change twice a day: once when the restaurants have bought what they need, and again an hour
before closing.

Water boils at a lower temperature on a mountain than at the sea, because the air above it
presses less. A cook who moves from the coast to a village at two thousand metres soon learns
that beans need longer and that a cake rises too fast. The rule of thumb is one degree less for
every three hundred metres. Coffee brewed up there tastes flat to some people, and a pressure
cooker, which keeps the steam in, is found in nearly every kitchen.

In 1854 a doctor in London marked on a map where people had died of cholera. The marks lay close
together around one pump in Broad Street. He did not know of bacteria, and most of his
colleagues blamed bad air, but he asked the parish to take the handle off the pump. Later it was
found that a leaking cesspit lay less than a metre from the well. The map is still shown to
students, not because it ended the outbreak, which was already slowing, but because it shows how
to ask a question with data.

To divide a number by nine, one can add its digits: if the sum can be divided by nine, so can
the number. Take 4,527. Four and five are nine, two makes eleven, and seven makes eighteen;
eighteen is twice nine, so 4,527 is a multiple of nine, namely 503 times. The trick works
because ten is one more than nine, and so are a hundred and a thousand one more than some
multiple of it.

"You said you would call," said Anna, without turning round. The kettle had begun to sing. Her
brother put his wet coat over the chair and sat down. "I meant to," he said. "The train was
late, and then my telephone was empty, and when I got to the station everyone wanted the one
that still works." She laughed, although she had planned not to. Outside the rain went on as if
it had all week, and it had: since Monday the cellar had been full of buckets, and each morning
they carried them up.

A program reads its input from a file, checks every line, and writes what it could not
understand to a second file. If the second file is empty at the end, the run was clean. If it is
not, a person looks at the first ten lines, because one mistake in a form usually repeats itself
a thousand times. This is dull work, and it is the reason why the reports that come out at the
end of the month are right.

Bees do not see red, but they see ultraviolet light, and many flowers that look plain to us have
lines on their petals that lead to the nectar. A hive in June holds forty thousand workers. Each
lives about six weeks, makes less than a twelfth of a teaspoon of honey, and in her last days
does the most dangerous work, which is to fly out. In winter the bees form a ball around their
queen and shiver to keep warm, and those on the outside change places with those within.
"""
