detal.start();
