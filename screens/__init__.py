"""Where people see a game: `picture` draws it once, `window` shows the pictures and `recording` keeps them.

    AtariEnvironment(on_frame=...)     ALE, after each of its 60 frames a second
      Show.on_frame                    the last screens, (210, 160, 3) uint8 each
        panel.draw_panel               at each agent step: what the network sees and expects, 360x630 RGB
        picture.draw                   one Pillow image of both, 1160x630 RGB
          Window.show, Recorder.show   neither knows what is in the picture

So the panel is seen in both. `learning_curve` draws a training from its numbers.
"""
