"""Where people see a game: `picture` draws it once, `window` shows the pictures and `recording` keeps them.

    AtariEnvironment(on_frame=...)     ALE, after each of its 60 frames a second
      Show.on_frame                    the last screens, (210, 160, 3) uint8 each, and
        Scene                          at each agent step: what the network sees and expects
        picture.draw                   one Pillow image of both, the Scene as a panel, 1160x630 RGB
          Window.show, Recorder.show   neither knows what is in the picture
        Terminal.draw, Terminal.show   the same in characters

`viewer` has what window and terminal share: the beat of the console and the person's keys. `human` takes the agent's
place, `saliency` tints where the network looks. `film` is of a game that was played before; `learning_curve` draws a
training from its numbers, and `html_report` is a page of all these; `inline` puts them into a notebook.
"""
