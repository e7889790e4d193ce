from speechft.cli import main

main()
