"""From many rulings to one: readings averaged, raters compared, players rated by their wins."""
